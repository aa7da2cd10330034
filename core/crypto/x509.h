// SPDX-License-Identifier: Apache-2.0
#pragma once
// X.509: certificates and CSRs parsed into plain values, certificates built from a template and signed elsewhere.
// Building is split so that the key may live anywhere: tbs() makes what is to be signed, seal() joins it with the
// signature. Pure functions, any thread; parsing is cheap, verifying a signature is not.

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "crypto/key.h"

namespace limpet {

// Key usage bits as RFC 5280 4.2.1.3 numbers them (bit 0 = digitalSignature).
enum KeyUsage : uint16_t {
  kDigitalSignature = 1u << 0,
  kKeyEncipherment = 1u << 2,
  kKeyAgreement = 1u << 4,
  kKeyCertSign = 1u << 5,
  kCrlSign = 1u << 6,
};

struct Certificate {
  Bytes der;
  Bytes serial;            // big-endian, no leading zero
  int64_t not_before = 0;  // Unix seconds
  int64_t not_after = 0;
  Bytes subject;  // DER Name
  Bytes issuer;   // DER Name
  PublicKey key;
  bool ca = false;
  bool has_basic_constraints = false;
  int path_len = -1;  // -1: absent
  bool has_key_usage = false;
  uint16_t key_usage = 0;
  std::vector<std::string> uris;
  std::vector<std::string> dns_names;
  Bytes subject_key_id;
  Bytes authority_key_id;
  bool unknown_critical = false;  // a critical extension that we do not process

  // At most limits::kCertificateBytes; trailing bytes are an error. INVALID_ARGUMENT.
  static Result<Certificate> parse(BytesView der);
  // SPIRE stores and compares serial numbers as decimal strings.
  [[nodiscard]] std::string serial_decimal() const;
  // As Go prints a Name: "SERIALNUMBER=2551,O=SPIFFE,C=US" (last RDN first).
  [[nodiscard]] std::string subject_text() const;
  // Checks this certificate's signature with the issuer's key. Burns CPU: worker.
  [[nodiscard]] Result<void> verify_signed_by(const Certificate& issuer_certificate) const;
};

// Concatenated DER certificates, as in the Workload API. INVALID_ARGUMENT names the certificate's index.
Result<std::vector<Certificate>> parse_certificates(BytesView concatenated_der);
Result<std::vector<Certificate>> parse_chain(const std::vector<Bytes>& chain_der);

struct Csr {
  Bytes der;
  Bytes subject;  // DER Name, may be an empty SEQUENCE
  PublicKey key;
  std::vector<std::string> uris;
  std::vector<std::string> dns_names;

  static Result<Csr> parse(BytesView der);    // INVALID_ARGUMENT; does not verify
  [[nodiscard]] Result<void> verify() const;  // the self-signature; worker
  // For verify(): what was signed and how.
  Bytes tbs;
  HashAlg hash = HashAlg::sha256;
  Bytes signature;
};

struct NameAttribute {
  std::string oid;    // dotted
  std::string value;  // UTF-8
};
// DER Name with one RDN per attribute, in the given order. PrintableString where the text allows, else UTF8String.
Bytes encode_name(const std::vector<NameAttribute>& attributes);
inline constexpr const char* kOidCountry = "2.5.4.6";
inline constexpr const char* kOidOrganization = "2.5.4.10";
inline constexpr const char* kOidOrganizationalUnit = "2.5.4.11";
inline constexpr const char* kOidCommonName = "2.5.4.3";
inline constexpr const char* kOidSerialNumber = "2.5.4.5";

struct CertificateTemplate {
  Bytes serial;   // big-endian; from random_serial()
  Bytes subject;  // DER Name
  Bytes issuer;   // DER Name
  int64_t not_before = 0;
  int64_t not_after = 0;
  Bytes spki;
  bool ca = false;
  uint16_t key_usage = 0;
  bool server_and_client_auth = false;  // EKU serverAuth, clientAuth
  std::vector<std::string> uris;
  std::vector<std::string> dns_names;
  Bytes subject_key_id;
  Bytes authority_key_id;  // empty: left out (self-signed root)
};

Bytes random_serial();  // in [1, 2^128 - 1]
// The TBSCertificate for a signature by a key of type `signer` over `hash`.
Bytes encode_tbs(const CertificateTemplate& cert, KeyType signer, HashAlg hash);
Bytes seal_certificate(BytesView tbs, KeyType signer, HashAlg hash, BytesView signature);

struct CsrTemplate {
  Bytes subject;
  Bytes spki;
  std::vector<std::string> uris;
  std::vector<std::string> dns_names;
};
Bytes encode_csr_info(const CsrTemplate& csr);  // CertificationRequestInfo, to be signed
Bytes seal_csr(BytesView info, KeyType signer, HashAlg hash, BytesView signature);
// With a key in memory, in one go. Worker.
Result<Bytes> make_csr(const CsrTemplate& csr, const PrivateKey& key);

}  // namespace limpet
