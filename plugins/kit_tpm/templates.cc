// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/templates.h"

#include <algorithm>

#include "crypto/der.h"
#include "kit_tpm/fields.h"

namespace limpet::tpm {
namespace {

using tpm_wire::Fields;
using tpm_wire::kAlgAes;
using tpm_wire::kAlgCfb;
using tpm_wire::kAlgEcdsa;
using tpm_wire::kAlgNull;
using tpm_wire::kAlgRsassa;
using tpm_wire::put_sized;
using tpm_wire::put_u16;
using tpm_wire::put_u32;

constexpr uint16_t kAlgKeyedHash = 0x0008;
constexpr uint16_t kAlgRsapss = 0x0016;
constexpr size_t kRsaBytes = 256;
constexpr size_t kP256Bytes = 32;
constexpr uint32_t kDefaultExponent = 65'537;

// PolicySecret(TPM_RH_ENDORSEMENT) under SHA-256: the policy of every EK made from L-1 or L-2.
constexpr uint8_t kEkPolicy[] = {0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc,
                                 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
                                 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};

Bytes padded(BytesView value, size_t size) {
  Bytes out = to_bytes(value.first(std::min(value.size(), size)));
  out.resize(size);
  return out;
}

Bytes head(uint16_t type, uint32_t attributes, BytesView policy) {
  Bytes out;
  put_u16(out, type);
  put_u16(out, kAlgSha256);
  put_u32(out, attributes);
  put_sized(out, policy);
  return out;
}
void put_cipher(Bytes& out, bool storage) {
  put_u16(out, storage ? kAlgAes : kAlgNull);
  if (!storage) return;
  put_u16(out, 128);
  put_u16(out, kAlgCfb);
}
void put_scheme(Bytes& out, uint16_t scheme) {
  put_u16(out, scheme);
  if (scheme != kAlgNull) put_u16(out, kAlgSha256);
}
Bytes rsa(uint32_t attributes, BytesView policy, uint16_t scheme, uint16_t bits, BytesView unique) {
  Bytes out = head(kAlgRsa, attributes, policy);
  put_cipher(out, (attributes & kDecrypt) != 0);
  put_scheme(out, scheme);
  put_u16(out, bits);
  put_u32(out, 0);  // the exponent: 65537
  put_sized(out, unique);
  return out;
}
Bytes ecc(uint32_t attributes, BytesView policy, uint16_t scheme, uint16_t curve, BytesView x, BytesView y) {
  Bytes out = head(kAlgEcc, attributes, policy);
  put_cipher(out, (attributes & kDecrypt) != 0);
  put_scheme(out, scheme);
  put_u16(out, curve);
  put_u16(out, kAlgNull);  // no key derivation
  put_sized(out, x);
  put_sized(out, y);
  return out;
}

constexpr uint32_t kOwn = kFixedTpm | kFixedParent | kSensitiveDataOrigin;
constexpr uint32_t kStorage = kOwn | kUserWithAuth | kNoDa | kRestricted | kDecrypt;
constexpr uint32_t kEndorsement = kOwn | kAdminWithPolicy | kRestricted | kDecrypt;
constexpr uint32_t attestation(bool no_da) { return kOwn | kUserWithAuth | kRestricted | kSign | (no_da ? kNoDa : 0); }

struct Parsed {
  uint16_t type = 0;
  uint16_t bits_or_curve = 0;
  uint32_t exponent = 0;
  BytesView x_or_modulus;
  BytesView y;
};

std::unexpected<Error> malformed() { return fail(Code::invalid_argument, "malformed TPM public area"); }

Result<Parsed> parse(BytesView area) {
  Fields in(area);
  Parsed out;
  out.type = in.u16();
  if (out.type != kAlgRsa && out.type != kAlgEcc) {
    return fail(Code::invalid_argument, "the TPM public area is neither an RSA nor an EC key");
  }
  in.u16();                              // nameAlg
  in.number(4);                          // attributes
  in.sized();                            // policy
  if (in.u16() != kAlgNull) in.take(4);  // cipher: key bits, mode
  if (const uint16_t scheme = in.u16(); scheme != kAlgNull) {
    in.take(scheme == kAlgRsassa || scheme == kAlgRsapss || scheme == kAlgEcdsa ? 2 : 0);
    if (scheme != kAlgRsassa && scheme != kAlgRsapss && scheme != kAlgEcdsa) return malformed();
  }
  out.bits_or_curve = in.u16();
  if (out.type == kAlgRsa) {
    out.exponent = in.number(4);
    out.x_or_modulus = in.sized();
  } else {
    if (in.u16() != kAlgNull) return malformed();
    out.x_or_modulus = in.sized();
    out.y = in.sized();
  }
  if (!in.finished()) return malformed();
  return out;
}

size_t curve_bytes(uint16_t curve) { return curve == kCurveP256 ? 32 : curve == kCurveP384 ? 48 : 0; }

// A coordinate in the curve's full length: some TPMs drop leading zeros.
Result<Bytes> coordinate(BytesView value, size_t size) {
  if (value.size() > size) return malformed();
  Bytes out(size - value.size());
  append(out, value);
  return out;
}

}  // namespace

Bytes srk_rsa() { return rsa(kStorage, {}, kAlgNull, 2048, {}); }
Bytes srk_ecc() { return ecc(kStorage, {}, kAlgNull, kCurveP256, {}, {}); }
Bytes ek_rsa(BytesView nonce) { return rsa(kEndorsement, kEkPolicy, kAlgNull, 2048, padded(nonce, kRsaBytes)); }
Bytes ek_ecc(BytesView nonce) {
  return ecc(kEndorsement, kEkPolicy, kAlgNull, kCurveP256, padded(nonce, kP256Bytes), Bytes(kP256Bytes));
}
Bytes ak_rsa(bool no_da) { return rsa(attestation(no_da), {}, kAlgRsassa, 2048, {}); }
Bytes ak_ecc(bool no_da) { return ecc(attestation(no_da), {}, kAlgEcdsa, kCurveP256, {}, {}); }

Bytes signing_key(KeyType type) {
  constexpr uint32_t kSigning = kOwn | kUserWithAuth | kNoDa | kSign;
  switch (type) {
    case KeyType::rsa_2048:
      return rsa(kSigning, {}, kAlgNull, 2048, {});
    case KeyType::rsa_4096:
      return rsa(kSigning, {}, kAlgNull, 4096, {});
    case KeyType::ec_p384:
      return ecc(kSigning, {}, kAlgNull, kCurveP384, {}, {});
    case KeyType::ec_p256:
      break;
  }
  return ecc(kSigning, {}, kAlgNull, kCurveP256, {}, {});
}

Bytes sealed_data(BytesView policy) {
  Bytes out = head(kAlgKeyedHash, kFixedTpm | kFixedParent | kNoDa | (policy.empty() ? kUserWithAuth : 0), policy);
  put_u16(out, kAlgNull);
  put_sized(out, {});
  return out;
}

Result<PublicKey> public_key_of(BytesView public_area) {
  TRY_ASSIGN(const Parsed parsed, parse(public_area));
  if (parsed.type == kAlgRsa) {
    Bytes exponent;
    put_u32(exponent, parsed.exponent == 0 ? kDefaultExponent : parsed.exponent);
    const Bytes key = der::sequence({der::unsigned_integer(parsed.x_or_modulus), der::unsigned_integer(exponent)});
    const Bytes alg = der::sequence({der::oid("1.2.840.113549.1.1.1"), der::element(der::kNull, BytesView())});
    return PublicKey::from_spki(der::sequence({alg, der::bit_string(key)}));
  }
  const size_t size = curve_bytes(parsed.bits_or_curve);
  if (size == 0) return fail(Code::invalid_argument, "the TPM key is on another curve than P-256 and P-384");
  TRY_ASSIGN(const Bytes x, coordinate(parsed.x_or_modulus, size));
  TRY_ASSIGN(const Bytes y, coordinate(parsed.y, size));
  Bytes point = {4};  // uncompressed
  append(point, x);
  append(point, y);
  const Bytes alg =
      der::sequence({der::oid("1.2.840.10045.2.1"), der::oid(size == 32 ? "1.2.840.10045.3.1.7" : "1.3.132.0.34")});
  return PublicKey::from_spki(der::sequence({alg, der::bit_string(point)}));
}

Result<KeyType> key_type_of(BytesView public_area) {
  TRY_ASSIGN(const Parsed parsed, parse(public_area));
  if (parsed.type == kAlgEcc && parsed.bits_or_curve == kCurveP256) return KeyType::ec_p256;
  if (parsed.type == kAlgEcc && parsed.bits_or_curve == kCurveP384) return KeyType::ec_p384;
  if (parsed.type == kAlgRsa && parsed.bits_or_curve == 2048) return KeyType::rsa_2048;
  if (parsed.type == kAlgRsa && parsed.bits_or_curve == 4096) return KeyType::rsa_4096;
  return fail(Code::unimplemented, "the TPM key is neither P-256, P-384, RSA-2048 nor RSA-4096");
}

Result<Bytes> plain_signature(BytesView signature) {
  Fields in(signature);
  const uint16_t scheme = in.u16();
  in.u16();  // hash
  if (scheme == kAlgRsassa || scheme == kAlgRsapss) {
    Bytes out = to_bytes(in.sized());
    if (in.finished() && !out.empty()) return out;
  }
  if (scheme == kAlgEcdsa) {
    const BytesView r = in.sized();
    const BytesView s = in.sized();
    if (in.finished() && !r.empty() && !s.empty()) {
      return der::sequence({der::unsigned_integer(r), der::unsigned_integer(s)});
    }
  }
  return fail(Code::invalid_argument,
              "the TPM's signature is malformed or of another kind than RSASSA, RSAPSS and ECDSA");
}

}  // namespace limpet::tpm
