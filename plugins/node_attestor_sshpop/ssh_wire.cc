// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_sshpop/ssh_wire.h"

#include <algorithm>

#include "crypto/der.h"
#include "crypto/mbed.h"
#include "kit/twin.h"

namespace limpet::sshpop {
namespace {

constexpr size_t kMaxCertificateBytes = 16384;
constexpr size_t kMaxNames = 64;  // principals or options
constexpr std::string_view kCertSuffix = "-cert-v01@openssh.com";
constexpr std::string_view kP256 = "ecdsa-sha2-nistp256";
constexpr std::string_view kP384 = "ecdsa-sha2-nistp384";
constexpr std::string_view kRsa = "ssh-rsa";

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }
std::unexpected<Error> mismatch() { return invalid("ssh: signature did not verify"); }

Result<PublicKey> make_rsa(BytesView e, BytesView n) {
  if (e.empty() || n.empty() || (e[0] & 0x80) != 0 || (n[0] & 0x80) != 0) return invalid("ssh: invalid RSA key");
  const Bytes numbers = der::sequence({der::unsigned_integer(n), der::unsigned_integer(e)});
  const Bytes algorithm = der::sequence({der::oid("1.2.840.113549.1.1.1"), der::element(der::kNull, {})});
  return PublicKey::from_spki(der::sequence({algorithm, der::bit_string(numbers)}));
}

Result<PublicKey> make_ec(std::string_view curve, BytesView point) {
  const Bytes algorithm = der::sequence(
      {der::oid("1.2.840.10045.2.1"), der::oid(curve == "nistp256" ? "1.2.840.10045.3.1.7" : "1.3.132.0.34")});
  return PublicKey::from_spki(der::sequence({algorithm, der::bit_string(point)}));
}

// The fields of a public key, which stand in keys and in certificates alike.
Result<PublicKey> read_key(std::string_view type, WireReader& reader) {
  if (type == kRsa) {
    TRY_ASSIGN(const BytesView e, reader.string());
    TRY_ASSIGN(const BytesView n, reader.string());
    return make_rsa(e, n);
  }
  if (type != kP256 && type != kP384)
    return fail(Code::unimplemented, "ssh: key type \"" + std::string(type.substr(0, 64)) +
                                         "\" is not supported; use ssh-rsa, ecdsa-sha2-nistp256 or -nistp384");
  TRY_ASSIGN(const BytesView curve, reader.string());
  if (as_text(curve) != type.substr(type.size() - 8)) return invalid("ssh: the curve does not fit the key type");
  TRY_ASSIGN(const BytesView point, reader.string());
  return make_ec(as_text(curve), point);
}

Result<std::vector<std::string>> read_names(BytesView packed, bool with_values) {
  std::vector<std::string> out;
  for (WireReader reader(packed); !reader.empty();) {
    if (out.size() == kMaxNames) return invalid("ssh: more than 64 names in one list");
    TRY_ASSIGN(const BytesView name, reader.string());
    out.emplace_back(as_text(name));
    if (with_values) TRY(reader.string());
  }
  return out;
}

Result<SshSignature> read_signature(BytesView packed) {
  WireReader reader(packed);
  TRY_ASSIGN(const BytesView format, reader.string());
  TRY_ASSIGN(const BytesView blob, reader.string());
  if (!reader.empty()) return invalid("ssh: trailing data after a signature");
  return SshSignature{std::string(as_text(format)), to_bytes(blob)};
}

Result<void> verify_sha1(const PublicKey& key, BytesView message, BytesView signature) {
  MbedPk pk;
  TRY(load_public_pk(*pk, key));
  mbedtls_rsa_context* rsa = mbedtls_pk_rsa(*pk);
  const Bytes digest = sha1(message);
  if (signature.size() != mbedtls_rsa_get_len(rsa) ||
      mbedtls_rsa_pkcs1_verify(rsa, MBEDTLS_MD_SHA1, 20, digest.data(), signature.data()) != 0)
    return mismatch();
  return {};
}

Result<void> verify_rsa(const PublicKey& key, BytesView message, const SshSignature& signature, bool allow_sha1) {
  if (signature.format == kRsa && allow_sha1) return verify_sha1(key, message, signature.blob);
  const bool longer = signature.format == "rsa-sha2-512";
  if (!longer && signature.format != "rsa-sha2-256") return mismatch();
  const HashAlg alg = longer ? HashAlg::sha512 : HashAlg::sha256;
  if (!key.verify(alg, hash(alg, message), signature.blob)) return mismatch();
  return {};
}

}  // namespace

Result<BytesView> WireReader::take(size_t size) {
  if (size > rest_.size()) return invalid("ssh: short read");
  const BytesView out = rest_.first(size);
  rest_ = rest_.subspan(size);
  return out;
}
Result<uint32_t> WireReader::u32() {
  TRY_ASSIGN(const BytesView b, take(4));
  return static_cast<uint32_t>(b[0]) << 24 | static_cast<uint32_t>(b[1]) << 16 | static_cast<uint32_t>(b[2]) << 8 |
         b[3];
}
Result<uint64_t> WireReader::u64() {
  TRY_ASSIGN(const uint32_t high, u32());
  TRY_ASSIGN(const uint32_t low, u32());
  return static_cast<uint64_t>(high) << 32 | low;
}
Result<BytesView> WireReader::string() {
  TRY_ASSIGN(const uint32_t size, u32());
  return take(size);
}

void put_string(Bytes& out, BytesView bytes) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(bytes.size() >> shift));
  append(out, bytes);
}
void put_number(Bytes& out, BytesView big_endian) {
  while (!big_endian.empty() && big_endian[0] == 0) big_endian = big_endian.subspan(1);
  Bytes number;
  if (!big_endian.empty() && (big_endian[0] & 0x80) != 0) number.push_back(0);
  append(number, big_endian);
  put_string(out, number);
}

Result<SshKey> parse_key(BytesView blob) {
  if (blob.size() > kMaxCertificateBytes) return invalid("ssh: key larger than 16 KiB");
  WireReader reader(blob);
  TRY_ASSIGN(const BytesView type, reader.string());
  TRY_ASSIGN(PublicKey key, read_key(as_text(type), reader));
  if (!reader.empty()) return invalid("ssh: trailing data after a key");
  return SshKey{std::string(as_text(type)), std::move(key)};
}

Result<Bytes> parse_key_line(std::string_view line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n' || line.back() == ' ')) line.remove_suffix(1);
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) return invalid("ssh: no key found; expected \"<type> <base64>\"");
  const std::string_view rest = line.substr(space + 1);
  return base64_decode(rest.substr(0, rest.find(' ')));
}

Result<SshCertificate> SshCertificate::parse(BytesView wire) {
  if (wire.size() > kMaxCertificateBytes) return invalid("ssh: certificate larger than 16 KiB");
  WireReader reader(wire);
  SshCertificate out;
  TRY_ASSIGN(const BytesView type, reader.string());
  if (!as_text(type).ends_with(kCertSuffix)) return invalid("ssh: not a certificate");
  out.key.type = as_text(type).substr(0, type.size() - kCertSuffix.size());
  TRY(reader.string());  // nonce
  TRY_ASSIGN(out.key.key, read_key(out.key.type, reader));
  TRY(reader.u64());  // serial
  TRY_ASSIGN(out.kind, reader.u32());
  TRY(reader.string());  // key id
  TRY_ASSIGN(const BytesView principals, reader.string());
  TRY_ASSIGN(out.principals, read_names(principals, false));
  TRY_ASSIGN(out.valid_after, reader.u64());
  TRY_ASSIGN(out.valid_before, reader.u64());
  TRY_ASSIGN(const BytesView options, reader.string());
  TRY_ASSIGN(out.critical_options, read_names(options, true));
  TRY(reader.string());  // extensions
  TRY(reader.string());  // reserved
  TRY_ASSIGN(const BytesView authority, reader.string());
  out.authority = to_bytes(authority);
  TRY_ASSIGN(const BytesView signature, reader.string());
  if (!reader.empty()) return invalid("ssh: trailing data after a certificate");
  out.body = to_bytes(wire.first(wire.size() - signature.size() - 4));
  TRY_ASSIGN(out.signature, read_signature(signature));
  out.wire = to_bytes(wire);
  return out;
}

Result<void> SshCertificate::check_host(const std::string& host, const std::vector<Bytes>& authorities,
                                        int64_t now) const {
  if (kind != kHostCertificate)
    return invalid("ssh: certificate presented as a host key has type " + std::to_string(kind));
  if (std::ranges::find(authorities, authority) == authorities.end())
    return invalid("ssh: no authorities for hostname: " + host + ":22");
  if (!critical_options.empty())
    return invalid("ssh: unsupported critical option \"" + critical_options.front() + "\" in certificate");
  if (std::ranges::find(principals, host) == principals.end())
    return invalid("ssh: principal \"" + host + "\" not in the set of valid principals for given certificate");
  const auto time = static_cast<uint64_t>(now);
  if (time < valid_after) return invalid("ssh: cert is not yet valid");
  if (time >= valid_before && valid_before != UINT64_MAX) return invalid("ssh: cert has expired");
  TRY_ASSIGN(const SshKey signer, parse_key(authority));
  if (!verify(signer, body, signature, false)) return invalid("ssh: certificate signature does not verify");
  return {};
}

Result<Bytes> SshCertificate::twin() const {
  if (signature.format != kP256 && signature.format != kP384) return Bytes();
  WireReader reader(signature.blob);
  TRY_ASSIGN(const BytesView r, reader.string());
  TRY_ASSIGN(const BytesView s, reader.string());
  Bytes plain;
  put_number(plain, r);
  Bytes other = plain;
  put_number(plain, s);
  if (plain != signature.blob) return invalid("ssh: the numbers of the certificate's signature are not mpints");
  TRY_ASSIGN(const Bytes negated, kit::negate_mod_order(s, signature.format == kP256 ? 256 : 384));
  put_number(other, negated);
  Bytes packed;
  put_string(packed, as_bytes(signature.format));
  put_string(packed, other);
  Bytes out = body;
  put_string(out, packed);
  return out;
}

Result<void> verify(const SshKey& key, BytesView message, const SshSignature& signature, bool allow_sha1) {
  if (key.type == kRsa) return verify_rsa(key.key, message, signature, allow_sha1);
  if (signature.format != key.type) return mismatch();
  WireReader reader(signature.blob);
  TRY_ASSIGN(const BytesView r, reader.string());
  TRY_ASSIGN(const BytesView s, reader.string());
  constexpr size_t kMaxNumber = 64;
  if (!reader.empty() || r.size() > kMaxNumber || s.size() > kMaxNumber) return mismatch();
  const Bytes asn1 = der::sequence({der::unsigned_integer(r), der::unsigned_integer(s)});
  const HashAlg alg = key.type == kP256 ? HashAlg::sha256 : HashAlg::sha384;
  if (!key.key.verify(alg, hash(alg, message), asn1)) return mismatch();
  return {};
}

Result<SshSignature> sign(const PrivateKey& key, BytesView message) {
  const HashAlg alg = key.type() == KeyType::ec_p384 ? HashAlg::sha384 : HashAlg::sha256;
  TRY_ASSIGN(Bytes signature, key.sign(alg, hash(alg, message)));
  if (key.public_key().is_rsa()) return SshSignature{"rsa-sha2-256", std::move(signature)};
  TRY_ASSIGN(const der::Element outer, der::single(signature, der::kSequence));
  SshSignature out;
  out.format = key.type() == KeyType::ec_p384 ? kP384 : kP256;
  for (der::Reader numbers(outer.content); !numbers.empty();) {
    TRY_ASSIGN(const der::Element number, numbers.expect(der::kInteger));
    put_number(out.blob, number.content);
  }
  return out;
}

}  // namespace limpet::sshpop
