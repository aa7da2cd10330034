// SPDX-License-Identifier: Apache-2.0
#include "crypto/jwk.h"

#include "crypto/der.h"

namespace limpet {

namespace {

BytesView without_leading_zeros(BytesView bytes) {
  while (!bytes.empty() && bytes[0] == 0) bytes = bytes.subspan(1);
  return bytes;
}

// The content of the BIT STRING; the key was checked when it was made.
Bytes key_bits(const PublicKey& key) {
  const Result<der::Element> spki = der::single(key.spki(), der::kSequence);
  if (!spki) return {};
  der::Reader reader(spki->content);
  if (!reader.next()) return {};
  const Result<der::Element> bits = reader.next();
  return bits && !bits->content.empty() ? to_bytes(bits->content.subspan(1)) : Bytes();
}

Result<Bytes> member(const char* name, const std::string& text) {
  if (text.empty()) return fail(Code::invalid_argument, std::string("JWK member \"") + name + "\" is missing");
  TRY_ASSIGN_WITHIN(std::string("JWK member \"") + name + "\"", Bytes out, base64url_decode(text));
  return out;
}

Result<PublicKey> ec_key(const JwkMembers& members) {
  const bool p256 = members.crv == "P-256";
  if (!p256 && members.crv != "P-384")
    return fail(Code::unimplemented, "unsupported JWK curve \"" + members.crv + "\"");
  TRY_ASSIGN(const Bytes x, member("x", members.x));
  TRY_ASSIGN(const Bytes y, member("y", members.y));
  const size_t size = p256 ? 32 : 48;
  if (x.size() != size || y.size() != size)
    return fail(Code::invalid_argument, "JWK coordinates have the wrong length");
  Bytes point{0x04};
  append(point, x);
  append(point, y);
  const Bytes algorithm =
      der::sequence({der::oid("1.2.840.10045.2.1"), der::oid(p256 ? "1.2.840.10045.3.1.7" : "1.3.132.0.34")});
  return PublicKey::from_spki(der::sequence({algorithm, der::bit_string(point)}));
}

Result<PublicKey> rsa_key(const JwkMembers& members) {
  TRY_ASSIGN(const Bytes n, member("n", members.n));
  TRY_ASSIGN(const Bytes e, member("e", members.e));
  const Bytes algorithm = der::sequence({der::oid("1.2.840.113549.1.1.1"), der::element(der::kNull, {})});
  const Bytes key = der::sequence({der::unsigned_integer(n), der::unsigned_integer(e)});
  return PublicKey::from_spki(der::sequence({algorithm, der::bit_string(key)}));
}

}  // namespace

JwkMembers jwk_members(const PublicKey& key) {
  JwkMembers out;
  const Bytes bits = key_bits(key);
  if (!key.is_rsa()) {
    const size_t size = key.bits() / 8;
    out.kty = "EC";
    out.crv = key.bits() == 256 ? "P-256" : "P-384";
    out.x = base64url_encode(BytesView(bits).subspan(1, size));
    out.y = base64url_encode(BytesView(bits).subspan(1 + size, size));
    return out;
  }
  out.kty = "RSA";
  const Result<der::Element> sequence = der::single(bits, der::kSequence);
  if (!sequence) return out;
  der::Reader reader(sequence->content);
  const Result<der::Element> n = reader.next();
  const Result<der::Element> e = reader.next();
  if (!n || !e) return out;
  out.n = base64url_encode(without_leading_zeros(n->content));
  out.e = base64url_encode(without_leading_zeros(e->content));
  return out;
}

Result<PublicKey> public_key_from_jwk(const JwkMembers& members) {
  if (members.kty == "EC") return ec_key(members);
  if (members.kty == "RSA") return rsa_key(members);
  return fail(Code::unimplemented, "unsupported JWK key type \"" + members.kty + "\"");
}

}  // namespace limpet
