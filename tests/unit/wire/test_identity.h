// SPDX-License-Identifier: Apache-2.0
#pragma once
// TLS identities and policies for tests of the transport.

#include <memory>
#include <string>

#include "crypto/x509.h"
#include "wire/tls.h"

namespace limpet::wire {

inline std::shared_ptr<const TlsIdentity> make_identity(const std::string& uri, KeyType type = KeyType::ec_p256,
                                                        int64_t not_before = 0, int64_t not_after = 4'000'000'000) {
  auto key = PrivateKey::generate(type);
  if (!key) return nullptr;
  CertificateTemplate cert;
  cert.serial = random_serial();
  cert.subject = encode_name({{kOidOrganization, "SPIFFE"}});
  cert.issuer = cert.subject;
  cert.not_before = not_before;
  cert.not_after = not_after;
  cert.spki = key->public_key().spki();
  cert.key_usage = kDigitalSignature;
  cert.server_and_client_auth = true;
  cert.uris = {uri};
  const HashAlg alg = hash_for(type);
  const Bytes tbs = encode_tbs(cert, type, alg);
  auto signature = key->sign(alg, hash(alg, tbs));
  if (!signature) return nullptr;
  auto identity = std::make_shared<TlsIdentity>();
  identity->chain = {seal_certificate(tbs, type, alg, *signature)};
  identity->key = std::make_shared<PrivateKey>(std::move(*key));
  return identity;
}

// Accepts any chain (or none), unless told what to answer.
struct TestVerifier final : PeerVerifier {
  std::optional<Error> answer;
  bool need_chain = false;
  Result<void> verify(const std::vector<Bytes>& chain) const override {
    if (answer) return fail(*answer);
    if (need_chain && chain.empty()) return fail(Code::unauthenticated, "no certificate");
    return {};
  }
};

struct TestPolicy final : TlsPolicy {
  std::shared_ptr<const TlsIdentity> mine;
  std::shared_ptr<TestVerifier> rules = std::make_shared<TestVerifier>();
  std::shared_ptr<const TlsIdentity> identity() override { return mine; }
  std::shared_ptr<const PeerVerifier> verifier() override { return rules; }
};

}  // namespace limpet::wire
