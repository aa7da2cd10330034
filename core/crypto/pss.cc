// SPDX-License-Identifier: Apache-2.0
#include "crypto/pss.h"

#include "crypto/mbed.h"

namespace limpet {
namespace {

using MbedRsa = Mbed<mbedtls_rsa_context, mbedtls_rsa_init, mbedtls_rsa_free>;
constexpr size_t kDigest = 32;

}  // namespace

Result<Bytes> sign_pss(const PrivateKey& key, BytesView digest) {
  if (!key.public_key().is_rsa()) return fail(Code::failed_precondition, "RSA-PSS: the key is not an RSA key");
  if (digest.size() != kDigest) return fail(Code::invalid_argument, "RSA-PSS: the digest must have 32 bytes");
  MbedRsa rsa;  // a copy: the padding is part of the context, and the key is shared
  int code = mbedtls_rsa_copy(rsa.get(), mbedtls_pk_rsa(*key.impl().pk));
  if (code == 0) code = mbedtls_rsa_set_padding(rsa.get(), MBEDTLS_RSA_PKCS_V21, MBEDTLS_MD_SHA256);
  if (code != 0) return fail(mbed_error("RSA-PSS", code));
  Bytes out(mbedtls_rsa_get_len(rsa.get()));
  const auto salt = static_cast<int>(out.size() - kDigest - 2);
  code = mbedtls_rsa_rsassa_pss_sign_ext(rsa.get(), mbed_random, nullptr, MBEDTLS_MD_SHA256, kDigest, digest.data(),
                                         salt, out.data());
  if (code != 0) return fail(mbed_error("RSA-PSS", code));
  return out;
}

Result<void> verify_pss(const PublicKey& key, BytesView digest, BytesView signature, HashAlg alg) {
  const auto mismatch = [] { return fail(Code::invalid_argument, "signature does not match"); };
  const size_t size = alg == HashAlg::sha256 ? 32 : alg == HashAlg::sha384 ? 48 : 64;
  if (!key.is_rsa() || digest.size() != size) return mismatch();
  MbedPk pk;
  TRY(load_public_pk(*pk, key));
  mbedtls_rsa_context* rsa = mbedtls_pk_rsa(*pk);
  if (signature.size() != mbedtls_rsa_get_len(rsa)) return mismatch();
  const int code =
      mbedtls_rsa_rsassa_pss_verify_ext(rsa, mbed_hash(alg), static_cast<unsigned int>(size), digest.data(),
                                        mbed_hash(alg), MBEDTLS_RSA_SALT_LEN_ANY, signature.data());
  if (code != 0) return mismatch();
  return {};
}

}  // namespace limpet
