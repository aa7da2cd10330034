// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/credential.h"

#include <mbedtls/aes.h>
#include <mbedtls/ecdh.h>
extern "C" {
#include <mbedtls/constant_time.h>  // does not say so itself
}

#include <algorithm>

#include "crypto/mbed.h"

namespace limpet::tpm_wire {
namespace {

constexpr uint32_t kMaxRsaBits = 4096;
constexpr uint32_t kHighRsaBits = 3072;
using MbedAes = Mbed<mbedtls_aes_context, mbedtls_aes_init, mbedtls_aes_free>;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Bytes hmac(HashAlg alg, BytesView key, BytesView data) {
  Bytes out(hash_bytes(alg));
  mbedtls_md_hmac(mbedtls_md_info_from_type(mbed_hash(alg)), key.data(), key.size(), data.data(), data.size(),
                  out.data());
  return out;
}

// Label, its zero byte, and the two contexts: what both derivations hash after their counter.
void append_info(Bytes& out, std::string_view label, BytesView u, BytesView v) {
  append(out, as_bytes(label));
  out.push_back(0);
  append(out, u);
  append(out, v);
}

Result<Bytes> encrypt_cfb(BytesView key, BytesView plain) {
  MbedAes aes;
  uint8_t iv[16] = {};
  size_t at = 0;
  Bytes out(plain.size());
  int code = mbedtls_aes_setkey_enc(aes.get(), key.data(), static_cast<unsigned>(key.size() * 8));
  if (code == 0)
    code = mbedtls_aes_crypt_cfb128(aes.get(), MBEDTLS_AES_ENCRYPT, plain.size(), &at, iv, plain.data(), out.data());
  if (code != 0) return fail(mbed_error("AES-CFB", code));
  return out;
}

// Part 1, B.10.4: the label goes with its zero byte.
Result<WrappedSeed> wrap_rsa(const Protector& ek, std::string_view what_for) {
  const std::string label(what_for);
  MbedPk pk;
  TRY(load_public_pk(*pk, ek.key));
  mbedtls_rsa_context* rsa = mbedtls_pk_rsa(*pk);
  WrappedSeed out{random_bytes(ek.aes_bits / 8u), Bytes(mbedtls_rsa_get_len(rsa))};
  int code = mbedtls_rsa_set_padding(rsa, MBEDTLS_RSA_PKCS_V21, mbed_hash(ek.hash));
  if (code == 0)
    code =
        mbedtls_rsa_rsaes_oaep_encrypt(rsa, mbed_random, nullptr, reinterpret_cast<const unsigned char*>(label.c_str()),
                                       label.size() + 1, out.seed.size(), out.seed.data(), out.secret.data());
  if (code != 0) return fail(mbed_error("RSA-OAEP", code));
  return out;
}

Result<void> write_number(const mbedtls_mpi& number, Bytes& out) {
  if (const int code = mbedtls_mpi_write_binary(&number, out.data(), out.size()); code != 0)
    return fail(mbed_error("ECDH", code));
  return {};
}

// Part 1, C.6.1: an ephemeral key; the seed follows from the shared point.
Result<WrappedSeed> wrap_ecc(const Protector& ek, std::string_view label) {
  MbedPk pk;
  TRY(load_public_pk(*pk, ek.key));
  const mbedtls_ecp_keypair* theirs = mbedtls_pk_ec(*pk);
  MbedKeypair ours;
  MbedMpi shared;
  int code = mbedtls_ecp_gen_key(theirs->MBEDTLS_PRIVATE(grp).id, ours.get(), mbed_random, nullptr);
  if (code == 0)
    code = mbedtls_ecdh_compute_shared(&ours->MBEDTLS_PRIVATE(grp), shared.get(), &theirs->MBEDTLS_PRIVATE(Q),
                                       &ours->MBEDTLS_PRIVATE(d), mbed_random, nullptr);
  if (code != 0) return fail(mbed_error("ECDH", code));
  const size_t size = ek.key.bits() / 8;
  Bytes z(size), x(size), y(size), their_x(size);
  TRY(write_number(*shared, z));
  TRY(write_number(ours->MBEDTLS_PRIVATE(Q).MBEDTLS_PRIVATE(X), x));
  TRY(write_number(ours->MBEDTLS_PRIVATE(Q).MBEDTLS_PRIVATE(Y), y));
  TRY(write_number(theirs->MBEDTLS_PRIVATE(Q).MBEDTLS_PRIVATE(X), their_x));
  WrappedSeed out{kdf_e(ek.hash, z, label, x, their_x, hash_bytes(ek.hash)), {}};
  wipe(z);
  put_sized(out.secret, x);
  put_sized(out.secret, y);
  return out;
}

}  // namespace

Result<WrappedSeed> wrap_seed(const Protector& key, std::string_view label) {
  return key.key.is_rsa() ? wrap_rsa(key, label) : wrap_ecc(key, label);
}

bool same_secret(BytesView a, BytesView b) {
  return a.size() == b.size() && mbedtls_ct_memcmp(a.data(), b.data(), a.size()) == 0;
}

Result<void> check_ek_size(const PublicKey& ek) {
  if (ek.is_rsa() && ek.bits() > kMaxRsaBits)
    return invalid("the endorsement key has " + std::to_string(ek.bits()) + " bits; at most 4096 are taken");
  return {};
}

Result<Protector> Protector::of(const Public& ek) {
  TRY(check_ek_size(ek.key));
  if (!ek.has(kRestricted | kDecrypt) || ek.symmetric_alg != kAlgAes)
    return invalid("the endorsement key is not a storage key (restricted, decrypt, AES)");
  TRY_ASSIGN(const HashAlg alg, hash_of(ek.name_alg));
  return Protector{ek.key, alg, ek.symmetric_bits};
}

Result<Protector> Protector::of(const PublicKey& ek) {
  TRY(check_ek_size(ek));
  if (ek.is_rsa() ? ek.bits() >= kHighRsaBits : ek.bits() == 384) return Protector{ek, HashAlg::sha384, 256};
  return Protector{ek, HashAlg::sha256, 128};
}

Bytes kdf_a(HashAlg hash, BytesView key, std::string_view label, BytesView u, BytesView v, size_t bytes) {
  Bytes out;
  for (uint32_t counter = 1; out.size() < bytes; ++counter) {
    Bytes input;
    put_u32(input, counter);
    append_info(input, label, u, v);
    put_u32(input, static_cast<uint32_t>(bytes * 8));
    append(out, hmac(hash, key, input));
  }
  out.resize(bytes);
  return out;
}

Bytes kdf_e(HashAlg hash, BytesView z, std::string_view label, BytesView u, BytesView v, size_t bytes) {
  Bytes out;
  for (uint32_t counter = 1; out.size() < bytes; ++counter) {
    Bytes input;
    put_u32(input, counter);
    append(input, z);
    append_info(input, label, u, v);
    append(out, limpet::hash(hash, input));
    wipe(input);
  }
  out.resize(bytes);
  return out;
}

// Part 1, 24.4: encrypted first, then authenticated together with the name.
Result<Credential> make_credential(const Protector& ek, BytesView name, BytesView secret) {
  if (secret.size() > hash_bytes(ek.hash)) return invalid("the secret is longer than the hash");
  TRY_ASSIGN(WrappedSeed wrapped, wrap_seed(ek, "IDENTITY"));
  Bytes aes_key = kdf_a(ek.hash, wrapped.seed, "STORAGE", name, {}, ek.aes_bits / 8u);
  Bytes mac_key = kdf_a(ek.hash, wrapped.seed, "INTEGRITY", {}, {}, hash_bytes(ek.hash));
  wipe(wrapped.seed);
  Bytes plain;
  put_sized(plain, secret);
  auto encrypted = encrypt_cfb(aes_key, plain);
  wipe(plain);
  wipe(aes_key);
  if (!encrypted) return fail(std::move(encrypted).error());
  Bytes covered = *encrypted;
  append(covered, name);
  Credential out;
  put_sized(out.id_object, hmac(ek.hash, mac_key, covered));
  append(out.id_object, *encrypted);
  out.secret = std::move(wrapped.secret);
  wipe(mac_key);
  return out;
}

}  // namespace limpet::tpm_wire
