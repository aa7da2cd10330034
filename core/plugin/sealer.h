// SPDX-License-Identifier: Apache-2.0
#pragma once
// A sealer as the core sees it: binds a small secret to this machine or token. The facade over the ABI implements it
// (plugin/sealer.cc); tests use fakes. Loop thread only.

#include <string>

#include "base/bytes.h"
#include "base/secret.h"
#include "loop/done.h"

namespace limpet {

class Sealer {
 public:
  virtual ~Sealer() = default;
  [[nodiscard]] virtual const std::string& name() const = 0;
  // 1 to 4,096 bytes; `context`, at most 64 bytes, must be given again to open the blob.
  virtual void seal(SecretBytes plain, Bytes context, Done<Bytes> done) = 0;
  // FAILED_PRECONDITION: this machine or token cannot open the blob. Anything else may pass.
  virtual void unseal(Bytes blob, Bytes context, Done<SecretBytes> done) = 0;
};

}  // namespace limpet
