// SPDX-License-Identifier: Apache-2.0
#pragma once
// Opening the data file: who owns it, whether it is sound, its tables and its schema. Blocking; before any thread
// starts.

#include <string>

#include "store/lmdb.h"

namespace limpet {

// A held lock on "<path>.owner": one process at a time has the store open for writing.
class OwnerLock {
 public:
  // UNAVAILABLE naming the process that holds it.
  static Result<OwnerLock> take(const std::string& store_path);
  OwnerLock() = default;
  OwnerLock(OwnerLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  OwnerLock& operator=(OwnerLock&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~OwnerLock();

 private:
  int descriptor_ = -1;
};

struct StoreFile {
  std::string path;
  OwnerLock owner;  // before env: released last
  EnvHandle env;
  Tables tables;
  std::string damage;  // empty: the file was sound
};

Result<StoreFile> open_store_file(const StoreOptions& options);

}  // namespace limpet
