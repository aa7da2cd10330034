// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: a CA and leaves made with our own builder, with room for what the builder refuses to make.

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "crypto/der.h"
#include "crypto/x509.h"

namespace limpet::test {

inline constexpr int64_t kNow = 1'795'312'835;  // 2026-11-22T02:00:35Z

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

inline Bytes vector_der(const std::string& name) {
  auto blocks = pem_decode(read_file(std::string(TEST_VECTORS) + "/spire/" + name));
  EXPECT_TRUE(blocks.has_value() && blocks->size() == 1) << name;
  return blocks ? blocks->at(0).der : Bytes();
}

// Keys are dear to make under sanitizers: each type once for the process.
inline const PrivateKey& shared_key(KeyType type, int which = 0) {
  static std::map<std::pair<KeyType, int>, PrivateKey> keys;
  auto found = keys.find({type, which});
  if (found == keys.end()) found = keys.emplace(std::pair(type, which), *PrivateKey::generate(type)).first;
  return found->second;
}

inline Bytes common_name(const std::string& name) { return encode_name({{kOidCommonName, name}}); }

// Adds one extension at the end of a TBSCertificate's list.
inline Bytes with_extension(const Bytes& tbs, BytesView extension) {
  const auto outer = der::single(tbs, der::kSequence);
  Bytes fields;
  der::Reader reader(outer->content);
  while (!reader.empty()) {
    const auto field = reader.next();
    if (field->tag != 0xa3) {
      append(fields, field->whole);
      continue;
    }
    const auto list = der::single(field->content, der::kSequence);
    append(fields, der::element(0xa3, der::element(der::kSequence, {list->content, extension})));
  }
  return der::element(der::kSequence, fields);
}

inline Bytes sign_tbs(const Bytes& tbs, const PrivateKey& key) {
  const HashAlg alg = hash_for(key.type());
  const auto signature = key.sign(alg, hash(alg, tbs));
  EXPECT_TRUE(signature.has_value());
  return seal_certificate(tbs, key.type(), alg, *signature);
}

struct Authority {
  const PrivateKey* key = nullptr;
  Certificate certificate;
};

inline CertificateTemplate ca_template(const std::string& name, const PrivateKey& key) {
  CertificateTemplate out;
  out.serial = Bytes{7};
  out.subject = out.issuer = common_name(name);
  out.not_before = kNow - 10;
  out.not_after = kNow + 86400;
  out.spki = key.public_key().spki();
  out.ca = true;
  out.key_usage = kKeyCertSign | kCrlSign;
  out.uris = {"spiffe://example.org"};
  out.subject_key_id = key.public_key().key_id();
  return out;
}

using Change = std::function<void(CertificateTemplate&)>;

inline Authority make_root(const std::string& name = "root", KeyType type = KeyType::ec_p256, int which = 0,
                           const Change& change = {}) {
  const PrivateKey& key = shared_key(type, which);
  CertificateTemplate cert = ca_template(name, key);
  if (change) change(cert);
  auto parsed = Certificate::parse(sign_tbs(encode_tbs(cert, key.type(), hash_for(key.type())), key));
  EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
  return {&key, std::move(*parsed)};
}

inline Certificate issue(const Authority& issuer, CertificateTemplate cert, const Change& change = {},
                         const Bytes& extension = {}) {
  cert.issuer = issuer.certificate.subject;
  cert.authority_key_id = issuer.certificate.subject_key_id;
  if (change) change(cert);
  Bytes tbs = encode_tbs(cert, issuer.key->type(), hash_for(issuer.key->type()));
  if (!extension.empty()) tbs = with_extension(tbs, extension);
  auto parsed = Certificate::parse(sign_tbs(tbs, *issuer.key));
  EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
  return std::move(*parsed);
}

inline Authority make_intermediate(const Authority& issuer, const std::string& name, int which,
                                   const Change& change = {}) {
  const PrivateKey& key = shared_key(KeyType::ec_p256, which);
  return {&key, issue(issuer, ca_template(name, key), change)};
}

inline CertificateTemplate leaf_template(KeyType type = KeyType::ec_p256) {
  const PrivateKey& key = shared_key(type, 100);
  CertificateTemplate out;
  out.serial = random_serial();
  out.subject = encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIRE"}});
  out.not_before = kNow - 10;
  out.not_after = kNow + 3600;
  out.spki = key.public_key().spki();
  out.key_usage = kDigitalSignature | kKeyEncipherment | kKeyAgreement;
  out.server_and_client_auth = true;
  out.uris = {"spiffe://example.org/web"};
  out.subject_key_id = key.public_key().key_id();
  return out;
}

inline Certificate make_leaf(const Authority& issuer, const Change& change = {}, const Bytes& extension = {}) {
  return issue(issuer, leaf_template(), change, extension);
}

}  // namespace limpet::test
