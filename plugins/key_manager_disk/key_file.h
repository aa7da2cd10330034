// SPDX-License-Identifier: Apache-2.0
#pragma once
// The key file, in SPIRE's format: {"keys":{"<id>":"<base64 of PKCS#8>"}}, mode 0600. Saved by writing a new file
// beside it, fsync, rename, fsync of the directory: a power cut leaves the old file or the new one. A file that cannot
// be understood is never touched. Owned by the plugin's instance, used by one thread at a time.

#include <string>

#include "kit/key_table.h"

namespace limpet::key_manager_disk {

class KeyFile {
 public:
  explicit KeyFile(std::string path) : path_(std::move(path)) {}
  KeyFile(const KeyFile&) = delete;
  KeyFile& operator=(const KeyFile&) = delete;
  ~KeyFile();

  // Keeps other instances away until this object dies. FAILED_PRECONDITION: the directory is missing or not writable,
  // or somebody else holds the lock.
  Result<void> lock();
  // A missing file is an empty table. FAILED_PRECONDITION: unreadable or damaged.
  Result<kit::KeyTable> load() const;
  // UNAVAILABLE with the path and the reason; the file is as before.
  Result<void> save(const kit::KeyTable& table) const;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  int lock_fd_ = -1;
};

}  // namespace limpet::key_manager_disk
