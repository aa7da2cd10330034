// SPDX-License-Identifier: Apache-2.0
#include "crypto/seal.h"

#include <mbedtls/gcm.h>

#include <cstring>

#include "crypto/key.h"
#include "crypto/mbed.h"

namespace limpet {

namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kKeyBytes = 32;
constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;
constexpr size_t kOverhead = 1 + kNonceBytes + kTagBytes;

using MbedGcm = Mbed<mbedtls_gcm_context, mbedtls_gcm_init, mbedtls_gcm_free>;

Result<void> set_key(MbedGcm& gcm, const SecretBytes& key) {
  if (key.size() != kKeyBytes) return fail(Code::failed_precondition, "the sealing key must have 32 bytes");
  if (const int code = mbedtls_gcm_setkey(gcm.get(), MBEDTLS_CIPHER_ID_AES, key.view().data(), 256); code != 0)
    return fail(mbed_error("set sealing key", code));
  return {};
}

// The version is bound too, so that a later format cannot be passed off as this one.
Bytes bound(BytesView context) {
  Bytes out{kVersion};
  append(out, context);
  return out;
}

}  // namespace

Result<Bytes> seal(const SecretBytes& key, BytesView context, BytesView plain) {
  MbedGcm gcm;
  TRY(set_key(gcm, key));
  Bytes out(kOverhead + plain.size());
  out[0] = kVersion;
  uint8_t* nonce = out.data() + 1;
  random_bytes(nonce, kNonceBytes);
  uint8_t* cipher = nonce + kNonceBytes;
  const Bytes aad = bound(context);
  const int code =
      mbedtls_gcm_crypt_and_tag(gcm.get(), MBEDTLS_GCM_ENCRYPT, plain.size(), nonce, kNonceBytes, aad.data(),
                                aad.size(), plain.data(), cipher, kTagBytes, cipher + plain.size());
  if (code != 0) return fail(mbed_error("seal", code));
  return out;
}

Result<SecretBytes> unseal(const SecretBytes& key, BytesView context, BytesView blob) {
  if (blob.size() < kOverhead) return fail(Code::failed_precondition, "sealed blob is too short");
  if (blob[0] != kVersion)
    return fail(Code::failed_precondition,
                "sealed blob has format " + std::to_string(blob[0]) + ", only format 1 is known");
  MbedGcm gcm;
  TRY(set_key(gcm, key));
  const BytesView nonce = blob.subspan(1, kNonceBytes);
  const BytesView cipher = blob.subspan(1 + kNonceBytes, blob.size() - kOverhead);
  const BytesView tag = blob.last(kTagBytes);
  SecretBytes out(cipher.size());
  const Bytes aad = bound(context);
  const int code = mbedtls_gcm_auth_decrypt(gcm.get(), cipher.size(), nonce.data(), nonce.size(), aad.data(),
                                            aad.size(), tag.data(), tag.size(), cipher.data(), out.data());
  if (code != 0)
    return fail(Code::failed_precondition, "sealed blob cannot be opened: another key or context, or it was damaged");
  return out;
}

}  // namespace limpet
