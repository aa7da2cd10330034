// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a TPM makes, made of keys in memory, for tests: public areas, attestations and signatures in the TPM's encoding,
// and the other end of MakeCredential. It lets a test make each structure wrong in one place, which no TPM would.

#include <gtest/gtest.h>
#include <mbedtls/aes.h>
#include <mbedtls/ecdh.h>

#include <map>

#include "crypto/der.h"
#include "crypto/mbed.h"
#include "kit_tpm/credential.h"
#include "kit_tpm/pcrs.h"
#include "kit_tpm/structures.h"

namespace limpet::test {

inline constexpr uint32_t kAkAttributes = 0x00050472;
inline constexpr uint32_t kEkAttributes = 0x000300b2;

inline void put_number(Bytes& out, uint64_t value, size_t size) {
  for (size_t i = size; i-- > 0;) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}
inline Bytes sized(BytesView content) {
  Bytes out;
  tpm_wire::put_sized(out, content);
  return out;
}

// The BIT STRING of a SubjectPublicKeyInfo.
inline Bytes key_bits(const PublicKey& key) {
  der::Reader spki(der::single(key.spki(), der::kSequence)->content);
  EXPECT_TRUE(spki.next());
  return to_bytes(*der::read_octet_bits(spki.expect(der::kBitString)->content));
}

// TPMT_PUBLIC. A storage key (restricted, decrypt) gets AES-128-CFB, a signing key its scheme with SHA-256.
inline Bytes public_area(const PublicKey& key, uint32_t attributes) {
  using namespace tpm_wire;
  const bool storage = (attributes & kDecrypt) != 0;
  Bytes out;
  put_u16(out, key.is_rsa() ? kAlgRsa : kAlgEcc);
  put_u16(out, kAlgSha256);
  put_u32(out, attributes);
  put_sized(out, {});
  if (storage) {
    for (const uint16_t value : {kAlgAes, uint16_t{128}, kAlgCfb, kAlgNull}) put_u16(out, value);
  } else {
    for (const uint16_t value : {kAlgNull, key.is_rsa() ? kAlgRsassa : kAlgEcdsa, kAlgSha256}) put_u16(out, value);
  }
  const Bytes bits = key_bits(key);
  if (!key.is_rsa()) {
    const size_t size = (bits.size() - 1) / 2;
    put_u16(out, size == 32 ? kCurveP256 : kCurveP384);
    put_u16(out, kAlgNull);
    put_sized(out, BytesView(bits).subspan(1, size));
    put_sized(out, BytesView(bits).subspan(1 + size));
    return out;
  }
  der::Reader numbers(der::single(bits, der::kSequence)->content);
  const Bytes modulus = *der::read_unsigned(numbers.expect(der::kInteger)->content);
  put_u16(out, static_cast<uint16_t>(modulus.size() * 8));
  put_u32(out, 0);
  put_sized(out, modulus);
  return out;
}

inline Bytes name_of(BytesView area) {
  Bytes out;
  tpm_wire::put_u16(out, tpm_wire::kAlgSha256);
  append(out, sha256(area));
  return out;
}

// TPMT_SIGNATURE with SHA-256.
inline Bytes tpm_signature(const PrivateKey& key, BytesView message) {
  const bool rsa = key.public_key().is_rsa();
  const Bytes plain = *key.sign(HashAlg::sha256, sha256(message));
  Bytes out;
  tpm_wire::put_u16(out, rsa ? tpm_wire::kAlgRsassa : tpm_wire::kAlgEcdsa);
  tpm_wire::put_u16(out, tpm_wire::kAlgSha256);
  if (rsa) {
    tpm_wire::put_sized(out, plain);
    return out;
  }
  der::Reader numbers(der::single(plain, der::kSequence)->content);
  for (int i = 0; i < 2; ++i) tpm_wire::put_sized(out, *der::read_unsigned(numbers.expect(der::kInteger)->content));
  return out;
}

struct AttestParts {
  uint32_t magic = 0xff544347;
  uint16_t type = tpm_wire::kAttestCreation;
  Bytes extra = {};
  uint64_t firmware = 0x0007'0055'0000'11cb;
  Bytes body = {};
};
inline Bytes attest(const AttestParts& parts) {
  Bytes out;
  tpm_wire::put_u32(out, parts.magic);
  tpm_wire::put_u16(out, parts.type);
  tpm_wire::put_sized(out, Bytes(34, 0x0b));  // qualifiedSigner
  tpm_wire::put_sized(out, parts.extra);
  append(out, Bytes(17));
  put_number(out, parts.firmware, 8);
  append(out, parts.body);
  return out;
}
inline Bytes named_body(BytesView name, BytesView second) {
  Bytes out = sized(name);
  append(out, sized(second));
  return out;
}

// TPMS_CREATION_DATA of a primary key of a hierarchy.
inline Bytes creation_data(uint32_t hierarchy = tpm_wire::kHierarchyEndorsement) {
  const Bytes parent = name_of(as_bytes("the parent's public area"));
  Bytes input;
  tpm_wire::put_u32(input, hierarchy);
  append(input, parent);
  Bytes out(4);
  append(out, sized(sha256({})));
  out.push_back(1);
  tpm_wire::put_u16(out, tpm_wire::kAlgSha256);
  append(out, sized(parent));
  append(out, sized(name_of({})));
  out.resize(out.size() - 32);
  append(out, sha256(input));
  append(out, sized({}));
  return out;
}

// The quote of PCR banks that have all the values given.
inline Bytes quote_body(const std::vector<tpm_wire::PcrBank>& banks) {
  Bytes out;
  tpm_wire::put_u32(out, static_cast<uint32_t>(banks.size()));
  Bytes all;
  for (const tpm_wire::PcrBank& bank : banks) {
    tpm_wire::put_u16(out, bank.hash);
    uint32_t mask = 0;
    for (const auto& [pcr, value] : bank.values) {
      mask |= 1u << pcr;
      append(all, value);
    }
    out.push_back(3);
    for (int i = 0; i < 3; ++i) out.push_back(static_cast<uint8_t>(mask >> (8 * i)));
  }
  append(out, sized(sha256(all)));
  return out;
}

// ---- TPM2_ActivateCredential ----

inline Bytes recover_seed(const tpm_wire::Protector& kind, const PrivateKey& ek, BytesView secret) {
  const std::string label("IDENTITY\0", 9);
  if (ek.public_key().is_rsa()) {
    Mbed<mbedtls_rsa_context, mbedtls_rsa_init, mbedtls_rsa_free> rsa;
    EXPECT_EQ(mbedtls_rsa_copy(rsa.get(), mbedtls_pk_rsa(*ek.impl().pk)), 0);
    mbedtls_rsa_set_padding(rsa.get(), MBEDTLS_RSA_PKCS_V21, mbed_hash(kind.hash));
    Bytes out(512);
    size_t size = 0;
    const int code = mbedtls_rsa_rsaes_oaep_decrypt(rsa.get(), mbed_random, nullptr,
                                                    reinterpret_cast<const unsigned char*>(label.data()), label.size(),
                                                    &size, secret.data(), out.data(), out.size());
    out.resize(code == 0 ? size : 0);
    return out;
  }
  tpm_wire::Reader reader(secret);
  const BytesView x = *reader.sized(48);
  const BytesView y = *reader.sized(48);
  Bytes point = {4};
  append(point, x);
  append(point, y);
  const mbedtls_ecp_keypair* ours = mbedtls_pk_ec(*ek.impl().pk);
  MbedKeypair theirs;
  MbedMpi z;
  mbedtls_ecp_group_copy(&theirs->MBEDTLS_PRIVATE(grp), &ours->MBEDTLS_PRIVATE(grp));
  EXPECT_EQ(mbedtls_ecp_point_read_binary(&theirs->MBEDTLS_PRIVATE(grp), &theirs->MBEDTLS_PRIVATE(Q), point.data(),
                                          point.size()),
            0);
  EXPECT_EQ(mbedtls_ecdh_compute_shared(&theirs->MBEDTLS_PRIVATE(grp), z.get(), &theirs->MBEDTLS_PRIVATE(Q),
                                        &ours->MBEDTLS_PRIVATE(d), mbed_random, nullptr),
            0);
  Bytes shared(x.size());
  mbedtls_mpi_write_binary(z.get(), shared.data(), shared.size());
  const Bytes bits = key_bits(ek.public_key());
  return tpm_wire::kdf_e(kind.hash, shared, "IDENTITY", x, BytesView(bits).subspan(1, x.size()),
                         tpm_wire::hash_bytes(kind.hash));
}

// Empty when anything does not fit, as a TPM would refuse.
inline Bytes activate(const tpm_wire::Protector& kind, const PrivateKey& ek, BytesView name,
                      const tpm_wire::Credential& credential) {
  const Bytes seed = recover_seed(kind, ek, credential.secret);
  const size_t hash_size = tpm_wire::hash_bytes(kind.hash);
  tpm_wire::Reader reader(credential.id_object);
  const BytesView mac = *reader.sized(hash_size);
  const BytesView encrypted = *reader.take(reader.left());
  const Bytes mac_key = tpm_wire::kdf_a(kind.hash, seed, "INTEGRITY", {}, {}, hash_size);
  Bytes covered = to_bytes(encrypted);
  append(covered, name);
  Bytes expected(hash_size);
  mbedtls_md_hmac(mbedtls_md_info_from_type(mbed_hash(kind.hash)), mac_key.data(), mac_key.size(), covered.data(),
                  covered.size(), expected.data());
  if (expected != to_bytes(mac)) return {};
  const Bytes key = tpm_wire::kdf_a(kind.hash, seed, "STORAGE", name, {}, kind.aes_bits / 8u);
  Mbed<mbedtls_aes_context, mbedtls_aes_init, mbedtls_aes_free> aes;
  mbedtls_aes_setkey_enc(aes.get(), key.data(), static_cast<unsigned>(key.size() * 8));
  uint8_t iv[16] = {};
  size_t at = 0;
  Bytes plain(encrypted.size());
  mbedtls_aes_crypt_cfb128(aes.get(), MBEDTLS_AES_DECRYPT, plain.size(), &at, iv, encrypted.data(), plain.data());
  return to_bytes(tpm_wire::without_size(plain));
}

}  // namespace limpet::test
