// SPDX-License-Identifier: Apache-2.0
// Building certificates and CSRs. Field order and encodings are those of Go's crypto/x509, which SPIRE's peers know.

#include "crypto/der.h"
#include "crypto/extensions.h"
#include "crypto/oids.h"
#include "crypto/x509.h"

namespace limpet {

namespace {

bool is_rsa(KeyType type) { return type == KeyType::rsa_2048 || type == KeyType::rsa_4096; }

bool is_empty_name(BytesView name) { return name.size() <= 2; }

Bytes encode_extensions(const CertificateTemplate& cert) {
  Bytes out;
  if (cert.key_usage != 0) append(out, encode_extension(oids::kKeyUsage, true, der::named_bits(cert.key_usage)));
  if (cert.server_and_client_auth)
    append(out, encode_extension(oids::kExtKeyUsage, false,
                                 der::sequence({der::oid(oids::kServerAuth), der::oid(oids::kClientAuth)})));
  const Bytes ca = cert.ca ? der::element(der::kBoolean, Bytes{0xff}) : Bytes();
  append(out, encode_extension(oids::kBasicConstraints, true, der::sequence({ca})));
  if (!cert.subject_key_id.empty())
    append(out, encode_extension(oids::kSubjectKeyId, false, der::element(der::kOctetString, cert.subject_key_id)));
  if (!cert.authority_key_id.empty())
    append(out,
           encode_extension(oids::kAuthorityKeyId, false, der::sequence({der::element(0x80, cert.authority_key_id)})));
  if (!cert.uris.empty() || !cert.dns_names.empty())
    // RFC 5280 4.2.1.6: critical when there is no subject to go by
    append(out, encode_extension(oids::kSubjectAltName, is_empty_name(cert.subject),
                                 encode_alt_names(cert.dns_names, cert.uris)));
  return der::element(der::kContext0 + 3, der::element(der::kSequence, out));
}

Bytes seal_signed(BytesView body, KeyType signer, HashAlg hash, BytesView signature) {
  return der::sequence({body, oids::encode_algorithm({is_rsa(signer), hash}), der::bit_string(signature)});
}

}  // namespace

Bytes random_serial() {
  for (;;) {
    Bytes out = random_bytes(16);
    size_t zeros = 0;
    while (zeros < out.size() && out[zeros] == 0) ++zeros;
    out.erase(out.begin(), out.begin() + static_cast<ptrdiff_t>(zeros));
    if (!out.empty()) return out;
  }
}

Bytes encode_tbs(const CertificateTemplate& cert, KeyType signer, HashAlg hash) {
  const Bytes version = der::element(der::kContext0, der::unsigned_integer(Bytes{2}));
  const Bytes validity = der::sequence({der::time(cert.not_before), der::time(cert.not_after)});
  return der::sequence({version, der::unsigned_integer(cert.serial), oids::encode_algorithm({is_rsa(signer), hash}),
                        cert.issuer, validity, cert.subject, cert.spki, encode_extensions(cert)});
}

Bytes seal_certificate(BytesView tbs, KeyType signer, HashAlg hash, BytesView signature) {
  return seal_signed(tbs, signer, hash, signature);
}

Bytes encode_csr_info(const CsrTemplate& csr) {
  Bytes attributes;
  if (!csr.uris.empty() || !csr.dns_names.empty()) {
    const Bytes names =
        encode_extension(oids::kSubjectAltName, is_empty_name(csr.subject), encode_alt_names(csr.dns_names, csr.uris));
    attributes = der::sequence(
        {der::oid(oids::kExtensionRequest), der::element(der::kSet, der::element(der::kSequence, names))});
  }
  const Bytes subject = csr.subject.empty() ? der::sequence({}) : csr.subject;
  return der::sequence({der::unsigned_integer({}), subject, csr.spki, der::element(der::kContext0, attributes)});
}

Bytes seal_csr(BytesView info, KeyType signer, HashAlg hash, BytesView signature) {
  return seal_signed(info, signer, hash, signature);
}

Result<Bytes> make_csr(const CsrTemplate& csr, const PrivateKey& key) {
  const HashAlg alg = hash_for(key.type());
  CsrTemplate filled = csr;
  if (filled.spki.empty()) filled.spki = key.public_key().spki();
  const Bytes info = encode_csr_info(filled);
  TRY_ASSIGN_WITHIN("make CSR", const Bytes signature, key.sign(alg, hash(alg, info)));
  return seal_csr(info, key.type(), alg, signature);
}

}  // namespace limpet
