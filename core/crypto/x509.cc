// SPDX-License-Identifier: Apache-2.0
// Parsing certificates and CSRs, and checking their signatures.

#include "crypto/x509.h"

#include "base/limits.h"
#include "crypto/der.h"
#include "crypto/extensions.h"
#include "crypto/oids.h"

namespace limpet {

namespace {

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

constexpr size_t kMaxSerialBytes = 20;  // RFC 5280 4.1.2.2

// What certificates and CSRs have in common: SEQUENCE { to be signed, algorithm, signature }.
struct Signed {
  der::Element body;
  BytesView algorithm;  // the AlgorithmIdentifier's content
  BytesView signature;
};

Result<Signed> split_signed(BytesView der) {
  TRY_ASSIGN(const der::Element outer, der::single(der, der::kSequence));
  der::Reader reader(outer.content);
  Signed out;
  TRY_ASSIGN(out.body, reader.expect(der::kSequence));
  TRY_ASSIGN(const der::Element algorithm, reader.expect(der::kSequence));
  TRY_ASSIGN(const der::Element signature, reader.expect(der::kBitString));
  TRY(reader.end());
  out.algorithm = algorithm.content;
  TRY_ASSIGN(out.signature, der::read_octet_bits(signature.content));
  return out;
}

Result<void> read_basic_constraints(Certificate& cert, BytesView value) {
  TRY_ASSIGN(const der::Element sequence, der::single(value, der::kSequence));
  der::Reader reader(sequence.content);
  cert.has_basic_constraints = true;
  if (reader.next_is(der::kBoolean)) {
    TRY_ASSIGN(const der::Element flag, reader.next());
    TRY_ASSIGN(cert.ca, der::read_boolean(flag.content));
  }
  if (reader.next_is(der::kInteger)) {
    TRY_ASSIGN(const der::Element length, reader.next());
    TRY_ASSIGN(const uint64_t path_len, der::read_small(length.content));
    cert.path_len = path_len > 1000 ? 1000 : static_cast<int>(path_len);
  }
  return reader.end();
}

Result<void> read_authority_key_id(Certificate& cert, BytesView value) {
  TRY_ASSIGN(const der::Element sequence, der::single(value, der::kSequence));
  der::Reader reader(sequence.content);
  if (!reader.next_is(0x80)) return {};  // only issuer and serial: not used
  TRY_ASSIGN(const der::Element id, reader.next());
  cert.authority_key_id = to_bytes(id.content);
  return {};
}

Result<void> read_extension(Certificate& cert, const std::string& oid, bool critical, BytesView value) {
  if (oid == oids::kBasicConstraints) return read_basic_constraints(cert, value);
  if (oid == oids::kAuthorityKeyId) return read_authority_key_id(cert, value);
  if (oid == oids::kKeyUsage) {
    TRY_ASSIGN(const der::Element bits, der::single(value, der::kBitString));
    TRY_ASSIGN(cert.key_usage, der::read_named_bits(bits.content));
    cert.has_key_usage = true;
  } else if (oid == oids::kSubjectKeyId) {
    TRY_ASSIGN(const der::Element id, der::single(value, der::kOctetString));
    cert.subject_key_id = to_bytes(id.content);
  } else if (oid == oids::kSubjectAltName) {
    TRY_ASSIGN(AltNames names, read_alt_names(value));
    if (critical && names.uris.empty() && names.dns_names.empty() && !names.others_known) cert.unknown_critical = true;
    cert.uris = std::move(names.uris);
    cert.dns_names = std::move(names.dns_names);
  } else if (oid == oids::kNameConstraints) {
    // Not evaluated. A CA that sets them means them, so such a chain is refused rather than let through.
    cert.unknown_critical = true;
  } else if (oid != oids::kExtKeyUsage && oid != oids::kCertificatePolicies && oid != oids::kCrlDistribution &&
             oid != oids::kAuthorityInfoAccess) {
    cert.unknown_critical = cert.unknown_critical || critical;
  }
  return {};
}

Result<void> read_validity(Certificate& cert, BytesView content) {
  der::Reader reader(content);
  TRY_ASSIGN(const der::Element from, reader.next());
  TRY_ASSIGN(const der::Element until, reader.next());
  TRY(reader.end());
  TRY_ASSIGN(cert.not_before, der::read_time(from));
  TRY_ASSIGN(cert.not_after, der::read_time(until));
  return {};
}

Result<int> read_version(der::Reader& reader) {
  if (!reader.next_is(der::kContext0)) return 1;
  TRY_ASSIGN(const der::Element wrapped, reader.next());
  TRY_ASSIGN(const der::Element number, der::single(wrapped.content, der::kInteger));
  TRY_ASSIGN(const uint64_t version, der::read_small(number.content));
  if (version != 1 && version != 2) return invalid("unsupported version");
  return static_cast<int>(version) + 1;
}

// Issuer and subject unique identifiers (RFC 5280 4.1.2.8) are obsolete and skipped; then come the extensions.
Result<void> read_tail(Certificate& cert, der::Reader& reader, int version) {
  for (uint8_t tag : {uint8_t{0x81}, uint8_t{0x82}})
    if (version >= 2 && reader.next_is(tag)) TRY(reader.next());
  if (version == 3 && reader.next_is(der::kContext0 + 3)) {
    TRY_ASSIGN(const der::Element wrapped, reader.next());
    TRY_ASSIGN(const der::Element extensions, der::single(wrapped.content, der::kSequence));
    TRY(read_extensions(extensions.content, [&cert](const std::string& oid, bool critical, BytesView value) {
      return read_extension(cert, oid, critical, value);
    }));
  }
  return reader.end();
}

Result<void> read_tbs(Certificate& cert, BytesView content, BytesView outer_algorithm) {
  der::Reader reader(content);
  TRY_ASSIGN(const int version, read_version(reader));
  TRY_ASSIGN(const der::Element serial, reader.expect(der::kInteger));
  TRY_ASSIGN_WITHIN("serial number", cert.serial, der::read_unsigned(serial.content));
  if (cert.serial.size() > kMaxSerialBytes) return invalid("serial number is longer than 20 bytes");
  TRY_ASSIGN(const der::Element algorithm, reader.expect(der::kSequence));
  if (to_bytes(algorithm.content) != to_bytes(outer_algorithm))
    return invalid("inner and outer signature algorithm differ");
  TRY_ASSIGN(const der::Element issuer, reader.expect(der::kSequence));
  TRY_WITHIN("issuer", check_name(issuer.whole));
  cert.issuer = to_bytes(issuer.whole);
  TRY_ASSIGN(const der::Element validity, reader.expect(der::kSequence));
  TRY_WITHIN("validity", read_validity(cert, validity.content));
  TRY_ASSIGN(const der::Element subject, reader.expect(der::kSequence));
  TRY_WITHIN("subject", check_name(subject.whole));
  cert.subject = to_bytes(subject.whole);
  TRY_ASSIGN(const der::Element spki, reader.expect(der::kSequence));
  TRY_ASSIGN(cert.key, PublicKey::from_spki(spki.whole));
  return read_tail(cert, reader, version);
}

Result<void> read_csr_attributes(Csr& csr, BytesView content) {
  for (der::Reader reader(content); !reader.empty();) {
    TRY_ASSIGN(const der::Element attribute, reader.expect(der::kSequence));
    der::Reader fields(attribute.content);
    TRY_ASSIGN(const der::Element oid, fields.expect(der::kOid));
    TRY_ASSIGN(const std::string name, der::read_oid(oid.content));
    TRY_ASSIGN(const der::Element values, fields.expect(der::kSet));
    TRY(fields.end());
    if (name != oids::kExtensionRequest) continue;
    TRY_ASSIGN(const der::Element extensions, der::single(values.content, der::kSequence));
    TRY(read_extensions(extensions.content, [&csr](const std::string& id, bool, BytesView value) -> Result<void> {
      if (id != oids::kSubjectAltName) return {};
      TRY_ASSIGN(AltNames names, read_alt_names(value));
      csr.uris = std::move(names.uris);
      csr.dns_names = std::move(names.dns_names);
      return {};
    }));
  }
  return {};
}

Result<void> read_csr_info(Csr& csr, BytesView content) {
  der::Reader reader(content);
  TRY_ASSIGN(const der::Element version, reader.expect(der::kInteger));
  TRY_ASSIGN(const uint64_t number, der::read_small(version.content));
  if (number != 0) return invalid("unsupported version");
  TRY_ASSIGN(const der::Element subject, reader.expect(der::kSequence));
  TRY_WITHIN("subject", check_name(subject.whole));
  csr.subject = to_bytes(subject.whole);
  TRY_ASSIGN(const der::Element spki, reader.expect(der::kSequence));
  TRY_ASSIGN(csr.key, PublicKey::from_spki(spki.whole));
  if (reader.next_is(der::kContext0)) {  // some writers leave the empty set out
    TRY_ASSIGN(const der::Element attributes, reader.next());
    TRY_WITHIN("attributes", read_csr_attributes(csr, attributes.content));
  }
  return reader.end();
}

Result<Certificate> parse_bare(BytesView der) {
  if (der.size() > limits::kCertificateBytes) return invalid("larger than 64 KiB");
  TRY_ASSIGN(const Signed parts, split_signed(der));
  Certificate out;
  TRY(read_tbs(out, parts.body.content, parts.algorithm));
  out.der = to_bytes(der);
  return out;
}

}  // namespace

Result<Certificate> Certificate::parse(BytesView der) {
  TRY_ASSIGN_WITHIN("parse certificate", Certificate out, parse_bare(der));
  return out;
}

Result<void> Certificate::verify_signed_by(const Certificate& issuer_certificate) const {
  TRY_ASSIGN(const Signed parts, split_signed(der));
  TRY_ASSIGN(const auto algorithm, oids::read_algorithm(parts.algorithm));
  if (!algorithm) return invalid("unsupported signature algorithm");
  if (algorithm->rsa != issuer_certificate.key.is_rsa())
    return invalid("signature algorithm does not fit the issuer's key");
  return issuer_certificate.key.verify(algorithm->hash, hash(algorithm->hash, parts.body.whole), parts.signature);
}

std::string Certificate::serial_decimal() const {
  // Long division by 10^9 over base-2^32 digits would be faster; serials have 20 bytes at most.
  Bytes number = serial;
  std::string out;
  size_t first = 0;
  while (first < number.size()) {
    unsigned rest = 0;
    for (size_t i = first; i < number.size(); ++i) {
      const unsigned value = rest << 8 | number[i];
      number[i] = static_cast<uint8_t>(value / 10);
      rest = value % 10;
    }
    out.push_back(static_cast<char>('0' + rest));
    while (first < number.size() && number[first] == 0) ++first;
  }
  if (out.empty()) return "0";
  return {out.rbegin(), out.rend()};
}

Result<std::vector<Certificate>> parse_certificates(BytesView concatenated_der) {
  std::vector<Certificate> out;
  for (der::Reader reader(concatenated_der); !reader.empty();) {
    const std::string which = "certificate " + std::to_string(out.size());
    if (out.size() == limits::kBundleCertificates) return invalid(which + ": too many certificates");
    TRY_ASSIGN_WITHIN(which, const der::Element element, reader.expect(der::kSequence));
    TRY_ASSIGN_WITHIN(which, Certificate certificate, Certificate::parse(element.whole));
    out.push_back(std::move(certificate));
  }
  return out;
}

Result<std::vector<Certificate>> parse_chain(const std::vector<Bytes>& chain_der) {
  std::vector<Certificate> out;
  for (const Bytes& der : chain_der) {
    const std::string which = "certificate " + std::to_string(out.size());
    if (out.size() == limits::kChainCertificates) return invalid(which + ": the chain is too long");
    TRY_ASSIGN_WITHIN(which, Certificate certificate, Certificate::parse(der));
    out.push_back(std::move(certificate));
  }
  return out;
}

namespace {

Result<Csr> parse_bare_csr(BytesView der) {
  if (der.size() > limits::kCsrBytes) return invalid("larger than 16 KiB");
  TRY_ASSIGN(const Signed parts, split_signed(der));
  TRY_ASSIGN(const auto algorithm, oids::read_algorithm(parts.algorithm));
  Csr out;
  TRY(read_csr_info(out, parts.body.content));
  out.der = to_bytes(der);
  out.tbs = to_bytes(parts.body.whole);
  // Without its signature a CSR can still be read, but verify() will refuse it.
  if (algorithm && algorithm->rsa == out.key.is_rsa()) {
    out.hash = algorithm->hash;
    out.signature = to_bytes(parts.signature);
  }
  return out;
}

}  // namespace

Result<Csr> Csr::parse(BytesView der) {
  TRY_ASSIGN_WITHIN("parse CSR", Csr out, parse_bare_csr(der));
  return out;
}

Result<void> Csr::verify() const {
  if (signature.empty()) return invalid("CSR: unsupported signature algorithm");
  TRY_WITHIN("CSR", key.verify(hash, limpet::hash(hash, tbs), signature));
  return {};
}

}  // namespace limpet
