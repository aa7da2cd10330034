// SPDX-License-Identifier: Apache-2.0
#pragma once
// The keys at rest: one file each in a directory, which says to what id the key belongs, its two halves as the TPM
// made them (the private one encrypted for that TPM alone) and under which storage root. One thread.

#include <map>
#include <string>

#include "kit/atomic_file.h"
#include "kit_tpm/device.h"

namespace limpet::key_manager_tpm2 {

struct TpmKey {
  tpm::KeyBlob blob;
  Bytes root_name;  // of the storage root key that it was made under
  KeyType type = KeyType::ec_p256;
  PublicKey key;
  std::string fingerprint;  // SHA-256 of the public key, hex
  // While this process runs: the loaded key, saved, so that signing takes no parent.
  Bytes saved = {};
  Bytes name = {};
  bool reported = false;  // that it is another TPM's
};

// From what the TPM or a file says. INVALID_ARGUMENT.
Result<TpmKey> make_tpm_key(tpm::KeyBlob blob, Bytes root_name);
std::string encode_key_file(std::string_view id, const TpmKey& key);
// INVALID_ARGUMENT, without the file's name.
Result<std::pair<std::string, TpmKey>> decode_key_file(std::string_view text);

class KeyDirectory {
 public:
  using Map = std::map<std::string, TpmKey, std::less<>>;

  explicit KeyDirectory(std::string path) : path_(std::move(path)) {}
  // Makes the directory (0700) when it is missing and keeps other instances away. FAILED_PRECONDITION.
  Result<void> lock();
  // A missing directory has no keys. FAILED_PRECONDITION: unreadable, or a damaged file, which is named and left.
  Result<Map> load() const;
  // UNAVAILABLE; what is on disk is then as before.
  Result<void> save(std::string_view id, const TpmKey& key) const;
  Result<void> remove(std::string_view id) const;
  // Keeps the file of a key that this TPM cannot use, under another name, before a new key takes its place.
  Result<void> set_aside(std::string_view id, const TpmKey& key) const;
  [[nodiscard]] std::string file_of(std::string_view id) const;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  kit::FileLock lock_;
};

}  // namespace limpet::key_manager_tpm2
