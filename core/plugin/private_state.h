// SPDX-License-Identifier: Apache-2.0
#pragma once
// What stands behind the host service limpet.kv/1: small private state of a component, on disk. The store implements it
// through main; tests use fakes. Loop thread only.

#include <string>

#include "base/bytes.h"
#include "loop/done.h"

namespace limpet {

inline constexpr size_t kPluginStateKeys = 1'000;  // of one component
inline constexpr size_t kPluginStateKeyBytes = 255;
inline constexpr size_t kPluginStateValueBytes = 64u << 10;  // with all keys: 64 MB of a disk at the very most

class PrivateState {
 public:
  virtual ~PrivateState() = default;
  // `owner` is the component, "keymanager(tpm2)". NOT_FOUND: there is no such key.
  virtual void get(const std::string& owner, std::string key, Done<Bytes> done) = 0;
  // Answer when it is on disk, with nothing. RESOURCE_EXHAUSTED: a key too many, or the disk is full. The key of a
  // remove need not be there.
  virtual void put(const std::string& owner, std::string key, Bytes value, Done<Bytes> done) = 0;
  virtual void remove(const std::string& owner, std::string key, Done<Bytes> done) = 0;
};

}  // namespace limpet
