// SPDX-License-Identifier: Apache-2.0
#include "crypto/oids.h"

namespace limpet::oids {

namespace {

struct Row {
  std::string_view oid;
  SignatureAlgorithm algorithm;
};
constexpr Row kAlgorithms[] = {
    {"1.2.840.10045.4.3.2", {false, HashAlg::sha256}},  {"1.2.840.10045.4.3.3", {false, HashAlg::sha384}},
    {"1.2.840.10045.4.3.4", {false, HashAlg::sha512}},  {"1.2.840.113549.1.1.11", {true, HashAlg::sha256}},
    {"1.2.840.113549.1.1.12", {true, HashAlg::sha384}}, {"1.2.840.113549.1.1.13", {true, HashAlg::sha512}},
};

}  // namespace

Bytes encode_algorithm(SignatureAlgorithm algorithm) {
  for (const Row& row : kAlgorithms)
    if (row.algorithm.rsa == algorithm.rsa && row.algorithm.hash == algorithm.hash)
      return algorithm.rsa ? der::sequence({der::oid(row.oid), der::element(der::kNull, {})})
                           : der::sequence({der::oid(row.oid)});
  return {};
}

Result<std::optional<SignatureAlgorithm>> read_algorithm(BytesView content) {
  der::Reader reader(content);
  TRY_ASSIGN(const der::Element oid, reader.expect(der::kOid));
  TRY_ASSIGN(const std::string name, der::read_oid(oid.content));
  for (const Row& row : kAlgorithms) {
    if (row.oid != name) continue;
    // RSA has NULL parameters (RFC 4055 5 lets a reader accept none), ECDSA has none (RFC 5758 3.2).
    if (row.algorithm.rsa && reader.next_is(der::kNull)) TRY(reader.next());
    TRY(reader.end());
    return row.algorithm;
  }
  return std::optional<SignatureAlgorithm>();
}

}  // namespace limpet::oids
