// SPDX-License-Identifier: Apache-2.0
#pragma once
// A small private file (0600) that is either the old one or the new one, whatever happens. Blocks on fsync.

#include <string>

#include "base/bytes.h"

namespace limpet::kit {

// Writes `<path>.new`, flushes it, renames it and flushes the directory. UNAVAILABLE with the reason; then the file is
// as before.
Result<void> replace_file(const std::string& path, BytesView content);
Result<void> remove_file(const std::string& path);  // and flushes the directory; a missing file is no error

// Keeps other instances away from what lies beside it while it lives; the file stays.
class FileLock {
 public:
  FileLock() = default;
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  // FAILED_PRECONDITION: not usable, or somebody else holds it.
  Result<void> take(const std::string& path);

 private:
  int fd_ = -1;
};

}  // namespace limpet::kit
