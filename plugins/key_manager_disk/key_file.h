// SPDX-License-Identifier: Apache-2.0
#pragma once
// The key file, in SPIRE's format: {"keys":{"<id>":"<base64 of PKCS#8>"}}, mode 0600. Sealed, it holds that text under
// AES-256-GCM, and the key for it as the host's sealer made it: {"sealed_key":"<base64>","sealed":"<base64>"}. Saved by
// writing a new file beside it, fsync, rename, fsync of the directory: a power cut leaves the old file or the new one.
// A file that cannot be understood is never touched. Owned by the plugin's instance, used by one thread at a time.

#include <string>

#include "base/secret.h"
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
  struct Content {
    kit::KeyTable table;
    Bytes sealed_key;  // not empty: the file is sealed, and the table is yet to be opened
    Bytes sealed;
  };
  // A missing file is an empty table. FAILED_PRECONDITION: unreadable or damaged.
  Result<Content> load() const;
  Result<kit::KeyTable> open(const Content& content, const SecretBytes& key) const;
  [[nodiscard]] bool exists() const;
  // UNAVAILABLE with the path and the reason; the file is as before.
  Result<void> save(const kit::KeyTable& table) const;
  Result<void> save_sealed(const kit::KeyTable& table, const SecretBytes& key, BytesView sealed_key) const;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Result<void> replace(BytesView text) const;
  std::string path_;
  int lock_fd_ = -1;
};

}  // namespace limpet::key_manager_disk
