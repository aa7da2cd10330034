// SPDX-License-Identifier: Apache-2.0
#pragma once
// The structures of TPM 2.0 (TCG Library Part 2) that a verifier reads: public areas, attestations, signatures and
// creation data, as bytes of a peer's. Bounds first, every byte accounted for. No TPM library. Pure functions, any
// thread; everything here owns its bytes. Errors are INVALID_ARGUMENT.
//
// Words: name - the hash algorithm's number and the hash of a public area. AK - attestation key, EK - endorsement key.

#include <cstdint>
#include <vector>

#include "crypto/key.h"

namespace limpet::tpm_wire {

// TPM_ALG_ID (Part 2, 6.3)
inline constexpr uint16_t kAlgRsa = 0x0001;
inline constexpr uint16_t kAlgSha1 = 0x0004;
inline constexpr uint16_t kAlgAes = 0x0006;
inline constexpr uint16_t kAlgSha256 = 0x000b;
inline constexpr uint16_t kAlgSha384 = 0x000c;
inline constexpr uint16_t kAlgSha512 = 0x000d;
inline constexpr uint16_t kAlgNull = 0x0010;
inline constexpr uint16_t kAlgRsassa = 0x0014;
inline constexpr uint16_t kAlgEcdsa = 0x0018;
inline constexpr uint16_t kAlgEcc = 0x0023;
inline constexpr uint16_t kAlgCfb = 0x0043;
// TPM_ECC_CURVE (6.4)
inline constexpr uint16_t kCurveP256 = 0x0003;
inline constexpr uint16_t kCurveP384 = 0x0004;
// TPM_ST (6.9)
inline constexpr uint16_t kAttestCertify = 0x8017;
inline constexpr uint16_t kAttestQuote = 0x8018;
inline constexpr uint16_t kAttestCreation = 0x801a;
// TPMA_OBJECT (8.3)
inline constexpr uint32_t kFixedTpm = 1u << 1;
inline constexpr uint32_t kFixedParent = 1u << 4;
inline constexpr uint32_t kSensitiveDataOrigin = 1u << 5;
inline constexpr uint32_t kRestricted = 1u << 16;
inline constexpr uint32_t kDecrypt = 1u << 17;
inline constexpr uint32_t kSign = 1u << 18;
inline constexpr uint32_t kHierarchyEndorsement = 0x4000000b;  // TPM_RH (7.4)

// Our hash for a TPM's; INVALID_ARGUMENT for SHA-1 and what we do not have.
Result<HashAlg> hash_of(uint16_t alg);
size_t hash_bytes(HashAlg alg);

// Big-endian fields, one after the other.
class Reader {
 public:
  explicit Reader(BytesView input) : rest_(input) {}
  Result<uint8_t> u8();
  Result<uint16_t> u16();
  Result<uint32_t> u32();
  Result<uint64_t> u64();
  Result<BytesView> take(size_t size);
  Result<BytesView> sized(size_t most);  // a TPM2B
  [[nodiscard]] size_t left() const { return rest_.size(); }
  [[nodiscard]] Result<void> end() const;  // "trailing data"

 private:
  Result<uint64_t> number(size_t size);
  BytesView rest_;
};

// Big-endian fields, written.
void put_u16(Bytes& out, uint16_t value);
void put_u32(Bytes& out, uint32_t value);
std::string hex_text(uint32_t value);           // "0x81010001"
void put_sized(Bytes& out, BytesView content);  // a TPM2B of at most 65,535 bytes

// The content of a TPM2B that is exactly as long as it says; anything else as it is. tpm2-tools writes files with the
// length in front, other tools without.
BytesView without_size(BytesView bytes);

// TPMT_PUBLIC of an asymmetric key (12.2.4).
struct Public {
  uint16_t type = 0;
  uint16_t name_alg = 0;
  uint32_t attributes = 0;
  uint16_t symmetric_alg = kAlgNull;  // kAlgNull: a key without children
  uint16_t symmetric_bits = 0;
  PublicKey key;

  static Result<Public> parse(BytesView bytes);
  [[nodiscard]] bool has(uint32_t wanted) const { return (attributes & wanted) == wanted; }
  [[nodiscard]] const Bytes& name() const { return name_; }

 private:
  Result<void> read_key(Reader& reader);
  Result<void> read_rsa(Reader& reader);
  Result<void> read_ecc(Reader& reader);
  Bytes name_;
};

// TPMT_SIGNATURE (11.3.4): RSASSA or ECDSA.
struct Signature {
  bool rsa = false;
  HashAlg hash = HashAlg::sha256;
  Bytes bytes;  // PKCS#1 v1.5, or ECDSA as ASN.1

  static Result<Signature> parse(BytesView bytes);
  // Over `message`, by a key of that kind. Burns CPU.
  [[nodiscard]] Result<void> verify(const PublicKey& key, BytesView message) const;
};

// TPML_PCR_SELECTION's member: PCRs in ascending order.
struct PcrSelection {
  uint16_t hash = 0;
  std::vector<uint32_t> pcrs;
  bool operator==(const PcrSelection&) const = default;
};

// TPMS_ATTEST (10.12.12).
struct Attest {
  uint16_t type = 0;
  Bytes qualified_signer;
  Bytes extra_data;
  uint64_t firmware_version = 0;       // as is only where the signer is in the endorsement hierarchy, see Part 1, 36.7
  Bytes name;                          // creation, certify: the object's
  Bytes creation_hash;                 // creation
  std::vector<PcrSelection> selected;  // quote
  Bytes pcr_digest;                    // quote

  // Certify, quote or creation, made by a TPM (magic number).
  static Result<Attest> parse(BytesView bytes);

 private:
  Result<void> read_body(Reader& reader);
};

// TPMS_CREATION_DATA (15.1), as far as it tells where a key hangs.
struct CreationData {
  Bytes parent_name;
  Bytes parent_qualified_name;
  static Result<CreationData> parse(BytesView bytes);
  // The parent is a primary key of the endorsement hierarchy.
  [[nodiscard]] bool under_endorsement() const;
};

}  // namespace limpet::tpm_wire
