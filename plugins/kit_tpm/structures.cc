// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/structures.h"

#include "crypto/der.h"

namespace limpet::tpm_wire {
namespace {

constexpr uint32_t kMagic = 0xff544347;  // TPM_GENERATED_VALUE: no TPM signs foreign data that begins with it
constexpr size_t kMaxDigest = 64;
constexpr size_t kMaxName = 2 + kMaxDigest;
constexpr size_t kMaxData = 2 + kMaxDigest;  // TPM2B_DATA: what a TPMT_HA needs
constexpr size_t kMaxRsa = 512;              // 4096 bits
constexpr size_t kMaxCoordinate = 48;
constexpr size_t kMaxPublic = 1024;
constexpr size_t kMaxSelections = 16;
constexpr size_t kMaxSelectBytes = 4;  // 32 PCRs; a TPM has 24
constexpr size_t kClockInfo = 8 + 4 + 4 + 1;

constexpr std::string_view kOidRsa = "1.2.840.113549.1.1.1";
constexpr std::string_view kOidEc = "1.2.840.10045.2.1";
constexpr std::string_view kOidP256 = "1.2.840.10045.3.1.7";
constexpr std::string_view kOidP384 = "1.3.132.0.34";

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

std::string hex16(uint16_t value) {
  Bytes bytes;
  put_u16(bytes, value);
  return "0x" + hex_encode(bytes);
}

// A scheme and what comes with it; only signing schemes and "none" are understood.
Result<void> skip_scheme(Reader& reader) {
  TRY_ASSIGN(const uint16_t scheme, reader.u16());
  if (scheme == kAlgNull) return {};
  TRY(reader.u16());  // each signing scheme that we verify, and OAEP, carries one hash
  if (scheme != kAlgRsassa && scheme != kAlgEcdsa) return invalid("scheme " + hex16(scheme) + " is not supported");
  return {};
}

Result<Bytes> read_sized(Reader& reader, size_t most) {
  TRY_ASSIGN(const BytesView bytes, reader.sized(most));
  return to_bytes(bytes);
}

Result<PcrSelection> read_selection(Reader& reader) {
  PcrSelection out;
  TRY_ASSIGN(out.hash, reader.u16());
  TRY_ASSIGN(const uint8_t size, reader.u8());
  if (size > kMaxSelectBytes) return invalid("a selection of more than 32 PCRs");
  TRY_ASSIGN(const BytesView bits, reader.take(size));
  for (uint32_t pcr = 0; pcr < size * 8u; ++pcr)
    if ((bits[pcr / 8] >> (pcr % 8) & 1) != 0) out.pcrs.push_back(pcr);
  return out;
}

Bytes left_padded(BytesView number, size_t size) {
  Bytes out(size - number.size());
  append(out, number);
  return out;
}

}  // namespace

Result<HashAlg> hash_of(uint16_t alg) {
  if (alg == kAlgSha256) return HashAlg::sha256;
  if (alg == kAlgSha384) return HashAlg::sha384;
  if (alg == kAlgSha512) return HashAlg::sha512;
  return invalid("hash algorithm " + hex16(alg) + " is not supported");
}

size_t hash_bytes(HashAlg alg) { return alg == HashAlg::sha256 ? 32 : alg == HashAlg::sha384 ? 48 : 64; }

// ---- reading and writing fields ----

Result<BytesView> Reader::take(size_t size) {
  if (size > rest_.size()) return invalid("ends in the middle of a field");
  const BytesView out = rest_.first(size);
  rest_ = rest_.subspan(size);
  return out;
}

Result<uint64_t> Reader::number(size_t size) {
  TRY_ASSIGN(const BytesView bytes, take(size));
  uint64_t out = 0;
  for (const uint8_t byte : bytes) out = out << 8 | byte;
  return out;
}

Result<uint8_t> Reader::u8() {
  TRY_ASSIGN(const uint64_t value, number(1));
  return static_cast<uint8_t>(value);
}
Result<uint16_t> Reader::u16() {
  TRY_ASSIGN(const uint64_t value, number(2));
  return static_cast<uint16_t>(value);
}
Result<uint32_t> Reader::u32() {
  TRY_ASSIGN(const uint64_t value, number(4));
  return static_cast<uint32_t>(value);
}
Result<uint64_t> Reader::u64() { return number(8); }

Result<BytesView> Reader::sized(size_t most) {
  TRY_ASSIGN(const uint16_t size, u16());
  if (size > most) return invalid("a field of " + std::to_string(size) + " bytes; at most " + std::to_string(most));
  return take(size);
}

Result<void> Reader::end() const {
  if (!rest_.empty()) return invalid("trailing data");
  return {};
}

void put_u16(Bytes& out, uint16_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}
void put_u32(Bytes& out, uint32_t value) {
  put_u16(out, static_cast<uint16_t>(value >> 16));
  put_u16(out, static_cast<uint16_t>(value));
}

std::string hex_text(uint32_t value) {
  Bytes bytes;
  put_u32(bytes, value);
  return "0x" + hex_encode(bytes);
}
void put_sized(Bytes& out, BytesView content) {
  put_u16(out, static_cast<uint16_t>(content.size()));
  append(out, content);
}

BytesView without_size(BytesView bytes) {
  const bool has = bytes.size() >= 2 && static_cast<size_t>(bytes[0] << 8 | bytes[1]) == bytes.size() - 2;
  return has ? bytes.subspan(2) : bytes;
}

// ---- public areas ----

Result<void> Public::read_rsa(Reader& reader) {
  TRY_ASSIGN(const uint16_t bits, reader.u16());
  TRY_ASSIGN(const uint32_t given, reader.u32());
  TRY_ASSIGN(const BytesView modulus, reader.sized(kMaxRsa));
  if (modulus.size() * 8 != bits) return invalid("the modulus has another size than said");
  const uint32_t exponent = given == 0 ? 65537 : given;  // Part 2, 12.2.3.5
  Bytes big_endian;
  put_u32(big_endian, exponent);
  const Bytes body = der::sequence({der::unsigned_integer(modulus), der::unsigned_integer(big_endian)});
  const Bytes algorithm = der::sequence({der::oid(kOidRsa), der::element(der::kNull, BytesView())});
  TRY_ASSIGN(key, PublicKey::from_spki(der::sequence({algorithm, der::bit_string(body)})));
  return {};
}

Result<void> Public::read_ecc(Reader& reader) {
  TRY_ASSIGN(const uint16_t curve, reader.u16());
  TRY_ASSIGN(const uint16_t kdf, reader.u16());
  if (kdf != kAlgNull) return invalid("a key derivation scheme is not supported");
  TRY_ASSIGN(const BytesView x, reader.sized(kMaxCoordinate));
  TRY_ASSIGN(const BytesView y, reader.sized(kMaxCoordinate));
  if (curve != kCurveP256 && curve != kCurveP384) return invalid("curve " + hex16(curve) + " is not supported");
  const size_t size = curve == kCurveP256 ? 32 : 48;
  if (x.size() > size || y.size() > size) return invalid("a coordinate is too long for its curve");
  Bytes point = {0x04};
  append(point, left_padded(x, size));
  append(point, left_padded(y, size));
  const Bytes algorithm = der::sequence({der::oid(kOidEc), der::oid(curve == kCurveP256 ? kOidP256 : kOidP384)});
  TRY_ASSIGN(key, PublicKey::from_spki(der::sequence({algorithm, der::bit_string(point)})));
  return {};
}

Result<void> Public::read_key(Reader& reader) {
  TRY_ASSIGN(type, reader.u16());
  TRY_ASSIGN(name_alg, reader.u16());
  TRY_ASSIGN(attributes, reader.u32());
  TRY(reader.sized(kMaxDigest));  // authPolicy
  if (type != kAlgRsa && type != kAlgEcc) return invalid("object type " + hex16(type) + " is not a public key");
  TRY_ASSIGN(symmetric_alg, reader.u16());
  if (symmetric_alg != kAlgNull) {
    TRY_ASSIGN(symmetric_bits, reader.u16());
    TRY_ASSIGN(const uint16_t mode, reader.u16());
    if (symmetric_alg != kAlgAes || mode != kAlgCfb || (symmetric_bits != 128 && symmetric_bits != 256))
      return invalid("only AES-128-CFB and AES-256-CFB are supported for children");
  }
  TRY(skip_scheme(reader));
  return type == kAlgRsa ? read_rsa(reader) : read_ecc(reader);
}

Result<Public> Public::parse(BytesView bytes) {
  if (bytes.size() > kMaxPublic) return invalid("public area: larger than 1 KiB");
  Public out;
  Reader reader(bytes);
  TRY_WITHIN("public area", out.read_key(reader));
  TRY_WITHIN("public area", reader.end());
  TRY_ASSIGN_WITHIN("public area", const HashAlg alg, hash_of(out.name_alg));
  put_u16(out.name_, out.name_alg);
  append(out.name_, hash(alg, bytes));
  return out;
}

// ---- signatures ----

Result<Signature> Signature::parse(BytesView bytes) {
  const auto read = [bytes]() -> Result<Signature> {
    Signature out;
    Reader reader(bytes);
    TRY_ASSIGN(const uint16_t alg, reader.u16());
    if (alg != kAlgRsassa && alg != kAlgEcdsa) return invalid("algorithm " + hex16(alg) + " is not supported");
    out.rsa = alg == kAlgRsassa;
    TRY_ASSIGN(const uint16_t hash_alg, reader.u16());
    TRY_ASSIGN(out.hash, hash_of(hash_alg));
    if (out.rsa) {
      TRY_ASSIGN(out.bytes, read_sized(reader, kMaxRsa));
    } else {
      TRY_ASSIGN(const BytesView r, reader.sized(kMaxCoordinate));
      TRY_ASSIGN(const BytesView s, reader.sized(kMaxCoordinate));
      out.bytes = der::sequence({der::unsigned_integer(r), der::unsigned_integer(s)});
    }
    TRY(reader.end());
    return out;
  };
  TRY_ASSIGN_WITHIN("signature", Signature out, read());
  return out;
}

Result<void> Signature::verify(const PublicKey& key, BytesView message) const {
  if (rsa != key.is_rsa()) return invalid("the signature is of another kind than the key");
  return key.verify(hash, limpet::hash(hash, message), bytes);
}

// ---- attestations ----

Result<void> Attest::read_body(Reader& reader) {
  if (type == kAttestQuote) {
    TRY_ASSIGN(const uint32_t count, reader.u32());
    if (count > kMaxSelections) return invalid("more than 16 PCR selections");
    for (uint32_t i = 0; i < count; ++i) {
      TRY_ASSIGN(PcrSelection selection, read_selection(reader));
      selected.push_back(std::move(selection));
    }
    TRY_ASSIGN(pcr_digest, read_sized(reader, kMaxDigest));
    return {};
  }
  TRY_ASSIGN(name, read_sized(reader, kMaxName));
  if (type == kAttestCertify) {
    TRY(reader.sized(kMaxName));  // qualifiedName
    return {};
  }
  if (type != kAttestCreation) return invalid("type " + hex16(type) + " is not supported");
  TRY_ASSIGN(creation_hash, read_sized(reader, kMaxDigest));
  return {};
}

Result<Attest> Attest::parse(BytesView bytes) {
  const auto read = [bytes]() -> Result<Attest> {
    Attest out;
    Reader reader(bytes);
    TRY_ASSIGN(const uint32_t magic, reader.u32());
    if (magic != kMagic) return invalid("not made by a TPM (magic number)");
    TRY_ASSIGN(out.type, reader.u16());
    TRY_ASSIGN(out.qualified_signer, read_sized(reader, kMaxName));
    TRY_ASSIGN(out.extra_data, read_sized(reader, kMaxData));
    TRY(reader.take(kClockInfo));
    TRY_ASSIGN(out.firmware_version, reader.u64());
    TRY(out.read_body(reader));
    TRY(reader.end());
    return out;
  };
  TRY_ASSIGN_WITHIN("attestation", Attest out, read());
  return out;
}

Result<CreationData> CreationData::parse(BytesView bytes) {
  const auto read = [bytes]() -> Result<CreationData> {
    CreationData out;
    Reader reader(bytes);
    TRY_ASSIGN(const uint32_t count, reader.u32());
    if (count > kMaxSelections) return invalid("more than 16 PCR selections");
    for (uint32_t i = 0; i < count; ++i) TRY(read_selection(reader));
    TRY(reader.sized(kMaxDigest));  // pcrDigest
    TRY(reader.u8());               // locality
    TRY(reader.u16());              // parentNameAlg
    TRY_ASSIGN(out.parent_name, read_sized(reader, kMaxName));
    TRY_ASSIGN(out.parent_qualified_name, read_sized(reader, kMaxName));
    TRY(reader.sized(kMaxData));  // outsideInfo
    TRY(reader.end());
    return out;
  };
  TRY_ASSIGN_WITHIN("creation data", CreationData out, read());
  return out;
}

// Part 1, 26.5: the qualified name of a primary key is the hash of its hierarchy's handle and its name.
bool CreationData::under_endorsement() const {
  if (parent_name.size() < 2) return false;
  const uint16_t number = static_cast<uint16_t>(parent_name[0] << 8 | parent_name[1]);
  const auto alg = hash_of(number);
  if (!alg) return false;
  Bytes input;
  put_u32(input, kHierarchyEndorsement);
  append(input, parent_name);
  Bytes expected;
  put_u16(expected, number);
  append(expected, hash(*alg, input));
  return expected == parent_qualified_name;
}

}  // namespace limpet::tpm_wire
