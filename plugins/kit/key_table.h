// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keys in memory by id, and the answers to the key manager table's calls. The disk key manager adds a file to it, the
// memory one nothing. Used by one thread at a time.

#include <limpet_plugin.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "crypto/key.h"

namespace limpet::kit {

inline constexpr size_t kMaxKeys = 1000;
inline constexpr size_t kMaxKeyIdBytes = 255;

// What every key manager checks before it works.
Result<void> check_new_key(std::string_view id, uint32_t type, bool full);
// The hash that made the digest; the digest's length must be the hash's. Whole messages are for other keys than ours:
// UNIMPLEMENTED.
Result<HashAlg> check_request(const limpet_sign_request& request);
Error unknown_key(std::string_view id);  // NOT_FOUND

struct StoredKey {
  explicit StoredKey(PrivateKey made);
  PrivateKey key;
  std::string fingerprint;  // SHA-256 of the public key, hex: a new key gives a new one
};

class KeyTable {
 public:
  using Map = std::map<std::string, StoredKey, std::less<>>;

  [[nodiscard]] const Map& keys() const { return keys_; }
  [[nodiscard]] Result<StoredKey> make(std::string_view id, uint32_t type) const;  // does not keep it
  // Keeps the key and returns the one it replaced.
  std::optional<StoredKey> put(std::string_view id, StoredKey key);
  std::optional<StoredKey> take(std::string_view id);

  void answer_key(limpet_op* op, std::string_view id, limpet_key_done done) const;
  void answer_list(limpet_op* op, limpet_keys_done done) const;
  void answer_sign(limpet_op* op, const limpet_sign_request* request, limpet_signature_done done) const;

 private:
  Map keys_;
};

}  // namespace limpet::kit
