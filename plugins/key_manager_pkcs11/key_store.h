// SPDX-License-Identifier: Apache-2.0
#pragma once
// The keys of one namespace in a token. A key is a pair of objects with the label "limpet:<namespace>:key:<id>" and a
// CKA_ID of their own, whose first half is a number: a new key behind an id has the next higher one. The new pair is
// made before the old one is destroyed; where a power cut left both, the lower number is the one that was handed out.
// Used by the instance's thread.

#include <map>
#include <string>

#include "crypto/key.h"
#include "key_manager_pkcs11/objects.h"

namespace limpet::pkcs11 {

struct TokenKey {
  PublicKey key;
  KeyType type = KeyType::ec_p256;
  std::string fingerprint;
  CK_OBJECT_HANDLE handle = 0;  // of the private key, in the session
};

struct SignWish {
  std::string id;
  HashAlg alg = HashAlg::sha256;
  Bytes digest;
  int32_t pss_salt_len = -1;
};

class KeyStore {
 public:
  using Keys = std::map<std::string, TokenKey, std::less<>>;
  KeyStore(Token& token, std::string name_space, const limpet_host* host)
      : token_(token), name_space_(std::move(name_space)), host_(host) {}

  Result<Keys> list();
  Result<TokenKey> generate(const std::string& id, KeyType type);
  Result<Bytes> sign(const SignWish& wish, std::string& fingerprint);
  Result<void> remove(const std::string& id);

 private:
  struct Pair {
    CK_OBJECT_HANDLE private_key = 0;
    std::string label;
    Bytes object_id;
    uint64_t number = 0;
    // The age; of two that were made at the same moment everybody takes the same one for the older.
    bool operator<(const Pair& other) const {
      return std::tie(number, object_id) < std::tie(other.number, other.object_id);
    }
  };
  using Pairs = std::multimap<std::string, Pair, std::less<>>;
  Result<void> read(Session& session);
  Result<Pairs> find_pairs(Session& session);
  static std::vector<Pair> newest_first(const Pairs& pairs, const std::string& id);
  static Result<PublicKey> read_public(Session& session, const Pair& pair);
  Result<TokenKey> make_pair(Session& session, const std::string& id, KeyType type, Pair& pair);
  // An error: the private key is still there.
  Result<void> destroy_pair(Session& session, const Pair& pair);

  Token& token_;
  const std::string name_space_;
  const limpet_host* host_;
  Keys keys_;
  uint64_t generation_ = 0;  // of the session that keys_ are of
};

}  // namespace limpet::pkcs11
