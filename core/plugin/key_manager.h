// SPDX-License-Identifier: Apache-2.0
#pragma once
// Key managers as the core sees them. Private keys never cross this interface. The facade over the ABI implements it
// (plugin/key_manager.cc); tests use fakes. Loop thread only.

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "crypto/ecdsa.h"
#include "crypto/key.h"
#include "loop/done.h"

namespace limpet {

struct ManagedKey {
  std::string id;  // "x509-CA-A", "agent-svid-A"
  KeyType type = KeyType::ec_p256;
  PublicKey key;
  std::string fingerprint;  // changes when the key behind the id is replaced
};

class KeyManager {
 public:
  virtual ~KeyManager() = default;
  [[nodiscard]] virtual const std::string& name() const = 0;
  virtual void generate(const std::string& id, KeyType type, Done<ManagedKey> done) = 0;  // replaces the id's key
  virtual void list(Done<std::vector<ManagedKey>> done) = 0;
  // NOT_FOUND: no such key. FAILED_PRECONDITION: the key behind the id was replaced since `key` was read.
  virtual void sign(const ManagedKey& key, HashAlg alg, Bytes digest, Done<Bytes> done) = 0;
  // RSASSA-PSS, where the plugin can: else UNIMPLEMENTED.
  virtual void sign_pss(const ManagedKey& key, HashAlg alg, int32_t salt_len, Bytes digest, Done<Bytes> done) = 0;
  virtual void remove(const std::string& id, Done<void> done) = 0;
  // For TLS with this key (see crypto/ecdsa.h): callable on worker threads, which wait for the plugin's answer.
  virtual std::shared_ptr<const BlockingSigner> blocking_signer(const ManagedKey& key) = 0;
};

// A Signer (crypto/key.h) over one managed key. The manager outlives it.
std::unique_ptr<Signer> make_signer(KeyManager& manager, ManagedKey key);

}  // namespace limpet
