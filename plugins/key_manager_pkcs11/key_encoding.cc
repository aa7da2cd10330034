// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/key_encoding.h"

#include "crypto/der.h"

namespace limpet::pkcs11 {
namespace {

constexpr std::string_view kOidEc = "1.2.840.10045.2.1";
constexpr std::string_view kOidP256 = "1.2.840.10045.3.1.7";
constexpr std::string_view kOidP384 = "1.3.132.0.34";
constexpr std::string_view kOidRsa = "1.2.840.113549.1.1.1";
constexpr size_t kMaxModulusBytes = 1024;

std::string prefix_of(std::string_view name_space) { return "limpet:" + std::string(name_space) + ":key:"; }

std::unexpected<Error> odd(std::string_view what) {
  return fail(Code::internal, "the token shows " + std::string(what));
}

Result<PublicKey> checked(Result<PublicKey> key) {
  if (key) return key;
  return odd("a public key that is none: " + key.error().message);
}

std::string_view hash_oid(HashAlg alg) {
  if (alg == HashAlg::sha256) return "2.16.840.1.101.3.4.2.1";
  return alg == HashAlg::sha384 ? "2.16.840.1.101.3.4.2.2" : "2.16.840.1.101.3.4.2.3";
}

}  // namespace

std::string key_label(std::string_view name_space, std::string_view id) {
  return prefix_of(name_space) + std::string(id);
}

std::string_view id_in_label(std::string_view name_space, std::string_view label) {
  const std::string prefix = prefix_of(name_space);
  return label.starts_with(prefix) ? label.substr(prefix.size()) : std::string_view();
}

Result<PublicKey> ec_public_key(BytesView params, BytesView point) {
  // A bare point begins with 4 too, as an OCTET STRING does: only what is left inside tells.
  const auto wrapped = der::single(point, der::kOctetString);
  if (wrapped && (wrapped->content.size() == 65 || wrapped->content.size() == 97)) point = wrapped->content;
  if (params.size() > 32 || point.size() > 256) return odd("a curve or a point that is too long");
  return checked(
      PublicKey::from_spki(der::sequence({der::sequence({der::oid(kOidEc), params}), der::bit_string(point)})));
}

Result<PublicKey> rsa_public_key(BytesView modulus, BytesView exponent) {
  if (modulus.empty() || modulus.size() > kMaxModulusBytes || exponent.empty() || exponent.size() > 8)
    return odd("an RSA key without modulus or exponent, or with one that is too long");
  const Bytes key = der::sequence({der::unsigned_integer(modulus), der::unsigned_integer(exponent)});
  return checked(PublicKey::from_spki(
      der::sequence({der::sequence({der::oid(kOidRsa), der::element(der::kNull, {})}), der::bit_string(key)})));
}

Result<KeyType> type_of(const PublicKey& key) {
  if (!key.is_rsa()) return key.bits() == 256 ? KeyType::ec_p256 : KeyType::ec_p384;
  if (key.bits() == 2048) return KeyType::rsa_2048;
  if (key.bits() == 4096) return KeyType::rsa_4096;
  return odd("an RSA key of " + std::to_string(key.bits()) + " bits");
}

Bytes curve_of(KeyType type) { return der::oid(type == KeyType::ec_p256 ? kOidP256 : kOidP384); }

BytesView shorten_digest(KeyType type, BytesView digest) {
  return digest.first(std::min<size_t>(digest.size(), type == KeyType::ec_p256 ? 32 : 48));
}

Result<Bytes> ecdsa_signature(BytesView raw) {
  if (raw.empty() || raw.size() % 2 != 0 || raw.size() > 2 * 66) return odd("an ECDSA signature of an odd size");
  const size_t half = raw.size() / 2;
  return der::sequence({der::unsigned_integer(raw.first(half)), der::unsigned_integer(raw.last(half))});
}

Bytes digest_info(HashAlg alg, BytesView digest) {
  return der::sequence({der::sequence({der::oid(hash_oid(alg)), der::element(der::kNull, {})}),
                        der::element(der::kOctetString, digest)});
}

}  // namespace limpet::pkcs11
