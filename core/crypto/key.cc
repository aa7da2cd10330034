// SPDX-License-Identifier: Apache-2.0
#include "crypto/key.h"

#include <psa/crypto.h>

#include <cstdio>
#include <mutex>

#include "crypto/der.h"
#include "crypto/mbed.h"

namespace limpet {

namespace {

struct KeyTypeRow {
  KeyType type;
  std::string_view name;
};
constexpr KeyTypeRow kKeyTypes[] = {{KeyType::ec_p256, "ec-p256"},
                                    {KeyType::ec_p384, "ec-p384"},
                                    {KeyType::rsa_2048, "rsa-2048"},
                                    {KeyType::rsa_4096, "rsa-4096"}};

constexpr std::string_view kOidEcPublicKey = "1.2.840.10045.2.1";
constexpr std::string_view kOidP256 = "1.2.840.10045.3.1.7";
constexpr std::string_view kOidP384 = "1.3.132.0.34";
constexpr std::string_view kOidRsa = "1.2.840.113549.1.1.1";

constexpr size_t kMinRsaBits = 2048;
constexpr size_t kMaxRsaBits = 8192;        // one verification costs about 1 ms there; more is only a burden
constexpr size_t kMaxRsaExponentBytes = 4;  // a longer public exponent makes verification as dear as signing
constexpr size_t kMaxPrivateKeyBytes = 16u << 10;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

size_t hash_size(HashAlg alg) { return alg == HashAlg::sha256 ? 32 : alg == HashAlg::sha384 ? 48 : 64; }

Result<void> check_digest(HashAlg alg, BytesView digest) {
  if (alg != HashAlg::sha256 && alg != HashAlg::sha384 && alg != HashAlg::sha512)
    return invalid("unsupported hash algorithm");
  if (digest.size() != hash_size(alg)) return invalid("digest has the wrong size for its hash");
  return {};
}

struct SpkiParts {
  std::string curve;  // dotted; empty for RSA
  BytesView key;      // the BIT STRING's bytes
};

Result<SpkiParts> split_spki(BytesView spki_der) {
  TRY_ASSIGN(const der::Element spki, der::single(spki_der, der::kSequence));
  der::Reader reader(spki.content);
  TRY_ASSIGN(const der::Element algorithm, reader.expect(der::kSequence));
  TRY_ASSIGN(const der::Element bits, reader.expect(der::kBitString));
  TRY(reader.end());
  SpkiParts out;
  TRY_ASSIGN(out.key, der::read_octet_bits(bits.content));
  der::Reader fields(algorithm.content);
  TRY_ASSIGN(const der::Element oid, fields.expect(der::kOid));
  TRY_ASSIGN(const std::string name, der::read_oid(oid.content));
  if (name == kOidEcPublicKey) {
    TRY_ASSIGN(const der::Element curve, fields.expect(der::kOid));
    TRY_ASSIGN(out.curve, der::read_oid(curve.content));
  } else if (name == kOidRsa) {
    TRY_ASSIGN(const der::Element parameters, fields.expect(der::kNull));
    if (!parameters.content.empty()) return invalid("malformed DER");
  } else {
    return invalid("unsupported public key algorithm " + name);
  }
  TRY(fields.end());
  return out;
}

Result<uint32_t> check_rsa(BytesView key) {
  TRY_ASSIGN(const der::Element sequence, der::single(key, der::kSequence));
  der::Reader reader(sequence.content);
  TRY_ASSIGN(const der::Element n, reader.expect(der::kInteger));
  TRY_ASSIGN(const der::Element e, reader.expect(der::kInteger));
  TRY(reader.end());
  TRY_ASSIGN(const Bytes modulus, der::read_unsigned(n.content));
  TRY_ASSIGN(const Bytes exponent, der::read_unsigned(e.content));
  if (exponent.empty() || exponent.size() > kMaxRsaExponentBytes) return invalid("RSA public exponent out of range");
  if (modulus.size() > kMaxRsaBits / 8) return invalid("RSA key is larger than 8192 bits");
  Mbed<mbedtls_rsa_context, mbedtls_rsa_init, mbedtls_rsa_free> rsa;
  if (mbedtls_rsa_import_raw(rsa.get(), modulus.data(), modulus.size(), nullptr, 0, nullptr, 0, nullptr, 0,
                             exponent.data(), exponent.size()) != 0 ||
      mbedtls_rsa_complete(rsa.get()) != 0 || mbedtls_rsa_check_pubkey(rsa.get()) != 0)
    return invalid("invalid RSA public key");
  const size_t bits = mbedtls_mpi_bitlen(&rsa->MBEDTLS_PRIVATE(N));
  if (bits < kMinRsaBits) return invalid("RSA key is smaller than 2048 bits");
  return static_cast<uint32_t>(bits);
}

Result<uint32_t> check_ec(const std::string& curve, BytesView point) {
  const bool p256 = curve == kOidP256;
  if (!p256 && curve != kOidP384) return invalid("unsupported elliptic curve " + curve);
  const size_t size = p256 ? 32 : 48;
  if (point.size() != 1 + 2 * size || point[0] != 0x04)
    return invalid("elliptic curve point is not in uncompressed form");
  MbedKeypair key;
  if (mbedtls_ecp_group_load(&key->MBEDTLS_PRIVATE(grp), p256 ? MBEDTLS_ECP_DP_SECP256R1 : MBEDTLS_ECP_DP_SECP384R1) !=
          0 ||
      mbedtls_ecp_point_read_binary(&key->MBEDTLS_PRIVATE(grp), &key->MBEDTLS_PRIVATE(Q), point.data(), point.size()) !=
          0 ||
      mbedtls_ecp_check_pubkey(&key->MBEDTLS_PRIVATE(grp), &key->MBEDTLS_PRIVATE(Q)) != 0)
    return invalid("elliptic curve point is not on the curve");
  return p256 ? 256u : 384u;
}

}  // namespace

Result<KeyType> parse_key_type(std::string_view name) {
  for (const KeyTypeRow& row : kKeyTypes)
    if (row.name == name) return row.type;
  return invalid("key type \"" + std::string(name) +
                 "\" is unknown; must be one of [rsa-2048, rsa-4096, ec-p256, ec-p384]");
}

std::string_view key_type_name(KeyType type) {
  for (const KeyTypeRow& row : kKeyTypes)
    if (row.type == type) return row.name;
  return "unknown";
}

HashAlg hash_for(KeyType type) { return type == KeyType::ec_p384 ? HashAlg::sha384 : HashAlg::sha256; }

void mbed_start() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (psa_crypto_init() != PSA_SUCCESS) std::abort();  // only without entropy or memory: nothing could be done safely
  });
}

Error mbed_error(std::string_view what, int code) {
  char text[64];
  std::snprintf(text, sizeof text, ": mbedTLS error -0x%04x", static_cast<unsigned>(-code));
  return Error{Code::internal, std::string(what) + text};
}

mbedtls_md_type_t mbed_hash(HashAlg alg) {
  return alg == HashAlg::sha256 ? MBEDTLS_MD_SHA256 : alg == HashAlg::sha384 ? MBEDTLS_MD_SHA384 : MBEDTLS_MD_SHA512;
}

Result<PublicKey> PublicKey::from_spki(BytesView spki_der) {
  if (spki_der.size() > 2048) return invalid("public key is too large");
  TRY_ASSIGN_WITHIN("public key", const SpkiParts parts, split_spki(spki_der));
  PublicKey out;
  out.rsa_ = parts.curve.empty();
  if (out.rsa_) {
    TRY_ASSIGN_WITHIN("public key", out.bits_, check_rsa(parts.key));
  } else {
    TRY_ASSIGN_WITHIN("public key", out.bits_, check_ec(parts.curve, parts.key));
  }
  out.spki_ = to_bytes(spki_der);
  return out;
}

Bytes PublicKey::key_id() const {
  const Result<SpkiParts> parts = split_spki(spki_);
  return parts ? sha1(parts->key) : Bytes();
}

Result<void> PublicKey::verify(HashAlg alg, BytesView digest, BytesView signature) const {
  TRY(check_digest(alg, digest));
  MbedPk pk;
  TRY(load_public_pk(*pk, *this));
  int code = 0;
  if (rsa_) {
    mbedtls_rsa_context* rsa = mbedtls_pk_rsa(*pk);
    if (signature.size() != mbedtls_rsa_get_len(rsa)) return invalid("signature does not match");
    code = mbedtls_rsa_pkcs1_verify(rsa, mbed_hash(alg), static_cast<unsigned>(digest.size()), digest.data(),
                                    signature.data());
  } else {
    code = ecdsa_seam::verify(mbedtls_pk_ec(*pk), digest, signature);
  }
  if (code != 0) return invalid("signature does not match");
  return {};
}

namespace {

// mbedTLS's writers fill buffers from the end; ours are wiped when they go.
struct Scratch {
  explicit Scratch(size_t size) : bytes(size) {}
  ~Scratch() { wipe(bytes); }
  Bytes bytes;
};

Result<Bytes> spki_of(mbedtls_pk_context& pk) {
  Bytes buffer(2048);
  const int size = mbedtls_pk_write_pubkey_der(&pk, buffer.data(), buffer.size());
  if (size < 0) return fail(mbed_error("write public key", size));
  return Bytes(buffer.end() - size, buffer.end());
}

Result<KeyType> type_of(mbedtls_pk_context& pk) {
  if (mbedtls_pk_get_type(&pk) == MBEDTLS_PK_RSA) {
    const size_t bits = mbedtls_pk_get_bitlen(&pk);
    if (bits == 2048) return KeyType::rsa_2048;
    if (bits == 4096) return KeyType::rsa_4096;
    return invalid("private key: RSA keys of " + std::to_string(bits) + " bits are not supported, only 2048 and 4096");
  }
  if (mbedtls_pk_can_do(&pk, MBEDTLS_PK_ECKEY) != 0) {
    const mbedtls_ecp_group_id curve = mbedtls_pk_ec(pk)->MBEDTLS_PRIVATE(grp).id;
    if (curve == MBEDTLS_ECP_DP_SECP256R1) return KeyType::ec_p256;
    if (curve == MBEDTLS_ECP_DP_SECP384R1) return KeyType::ec_p384;
  }
  return invalid("private key: unsupported algorithm or curve, only P-256, P-384 and RSA are taken");
}

Result<void> finish(PrivateKey::Impl& impl) {
  TRY_ASSIGN(impl.type, type_of(*impl.pk));
  TRY_ASSIGN(const Bytes spki, spki_of(*impl.pk));
  TRY_ASSIGN(impl.public_key, PublicKey::from_spki(spki));
  return {};
}

int generate_into(mbedtls_pk_context& pk, KeyType type) {
  const bool rsa = type == KeyType::rsa_2048 || type == KeyType::rsa_4096;
  const int code = mbedtls_pk_setup(&pk, mbedtls_pk_info_from_type(rsa ? MBEDTLS_PK_RSA : MBEDTLS_PK_ECKEY));
  if (code != 0) return code;
  if (rsa)
    return mbedtls_rsa_gen_key(mbedtls_pk_rsa(pk), mbed_random, nullptr, type == KeyType::rsa_2048 ? 2048 : 4096,
                               65537);
  return ecdsa_seam::generate(type == KeyType::ec_p256 ? MBEDTLS_ECP_DP_SECP256R1 : MBEDTLS_ECP_DP_SECP384R1,
                              mbedtls_pk_ec(pk));
}

// PrivateKeyInfo with an ECPrivateKey inside, as Go writes it: the curve named outside only, the public key inside.
SecretBytes ec_pkcs8(const PrivateKey::Impl& impl) {
  const mbedtls_ecp_keypair* key = mbedtls_pk_ec(*impl.pk);
  const size_t size = impl.type == KeyType::ec_p256 ? 32 : 48;
  Scratch scalar(size);
  mbedtls_mpi_write_binary(&key->MBEDTLS_PRIVATE(d), scalar.bytes.data(), size);
  Bytes point(1 + 2 * size);
  size_t written = 0;
  mbedtls_ecp_point_write_binary(&key->MBEDTLS_PRIVATE(grp), &key->MBEDTLS_PRIVATE(Q), MBEDTLS_ECP_PF_UNCOMPRESSED,
                                 &written, point.data(), point.size());
  const Bytes zero = der::unsigned_integer({});
  const Bytes one = der::element(der::kInteger, Bytes{1});
  const Bytes algorithm =
      der::sequence({der::oid(kOidEcPublicKey), der::oid(impl.type == KeyType::ec_p256 ? kOidP256 : kOidP384)});
  const Bytes public_part = der::element(der::kContext0 + 1, der::bit_string(point));
  Scratch private_part(0), sec1(0), inner(0), outer(0);
  private_part.bytes = der::element(der::kOctetString, scalar.bytes);
  sec1.bytes = der::sequence({one, private_part.bytes, public_part});
  inner.bytes = der::element(der::kOctetString, sec1.bytes);
  outer.bytes = der::sequence({zero, algorithm, inner.bytes});
  return SecretBytes(outer.bytes);
}

SecretBytes rsa_pkcs8(const PrivateKey::Impl& impl) {
  Scratch buffer(4096);
  const int size = mbedtls_pk_write_key_der(impl.pk.get(), buffer.bytes.data(), buffer.bytes.size());
  if (size < 0) std::abort();  // the largest key we hold needs 2,400 bytes
  const BytesView pkcs1 = BytesView(buffer.bytes).last(static_cast<size_t>(size));
  const Bytes algorithm = der::sequence({der::oid(kOidRsa), der::element(der::kNull, {})});
  Scratch inner(0), outer(0);
  inner.bytes = der::element(der::kOctetString, pkcs1);
  outer.bytes = der::sequence({der::unsigned_integer({}), algorithm, inner.bytes});
  return SecretBytes(outer.bytes);
}

}  // namespace

PrivateKey::PrivateKey(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PrivateKey::PrivateKey(PrivateKey&&) noexcept = default;
PrivateKey& PrivateKey::operator=(PrivateKey&&) noexcept = default;
PrivateKey::~PrivateKey() = default;

Result<PrivateKey> PrivateKey::generate(KeyType type) {
  auto impl = std::make_unique<Impl>();
  if (const int code = generate_into(*impl->pk, type); code != 0) return fail(mbed_error("generate key", code));
  TRY_WITHIN("generate key", finish(*impl));
  return PrivateKey(std::move(impl));
}

Result<PrivateKey> PrivateKey::from_pkcs8(BytesView der) {
  if (der.size() > kMaxPrivateKeyBytes) return invalid("private key: too large");
  TRY_WITHIN("private key", der::single(der, der::kSequence));
  auto impl = std::make_unique<Impl>();
  if (mbedtls_pk_parse_key(impl->pk.get(), der.data(), der.size(), nullptr, 0, mbed_random, nullptr) != 0)
    return invalid("private key: not an unencrypted PKCS#8, SEC1 or PKCS#1 key");
  TRY(finish(*impl));
  if (!impl->public_key.is_rsa()) {
    const mbedtls_ecp_keypair* key = mbedtls_pk_ec(*impl->pk);
    // The file may carry somebody else's point beside its scalar.
    if (mbedtls_ecp_check_pub_priv(key, key, mbed_random, nullptr) != 0)
      return invalid("private key: public and private part do not belong together");
  }
  return PrivateKey(std::move(impl));
}

SecretBytes PrivateKey::pkcs8() const { return impl_->public_key.is_rsa() ? rsa_pkcs8(*impl_) : ec_pkcs8(*impl_); }
const PublicKey& PrivateKey::public_key() const { return impl_->public_key; }
KeyType PrivateKey::type() const { return impl_->type; }

Result<Bytes> PrivateKey::sign(HashAlg alg, BytesView digest) const {
  TRY(check_digest(alg, digest));
  Bytes out(MBEDTLS_PK_SIGNATURE_MAX_SIZE);
  size_t size = 0;
  int code = 0;
  if (impl_->public_key.is_rsa()) {
    mbedtls_rsa_context* rsa = mbedtls_pk_rsa(*impl_->pk);
    size = mbedtls_rsa_get_len(rsa);
    code = mbedtls_rsa_pkcs1_sign(rsa, mbed_random, nullptr, mbed_hash(alg), static_cast<unsigned>(digest.size()),
                                  digest.data(), out.data());
  } else {
    code = ecdsa_seam::sign(mbedtls_pk_ec(*impl_->pk), mbed_hash(alg), digest, out, &size);
  }
  if (code != 0) return fail(mbed_error("sign", code));
  out.resize(size);
  return out;
}

}  // namespace limpet
