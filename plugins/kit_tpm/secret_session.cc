// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/secret_session.h"

#include <mbedtls/aes.h>

#include "crypto/mbed.h"
#include "kit_tpm/credential.h"

namespace limpet::tpm {
namespace {

constexpr size_t kDigestBytes = 32;
constexpr size_t kAesBytes = 16;
using MbedAes = Mbed<mbedtls_aes_context, mbedtls_aes_init, mbedtls_aes_free>;

constexpr TPMT_SYM_DEF aes_128_cfb() {
  TPMT_SYM_DEF out = {};
  out.algorithm = TPM2_ALG_AES;
  out.keyBits.aes = 128;
  out.mode.aes = TPM2_ALG_CFB;
  return out;
}
constexpr TPMT_SYM_DEF kCipher = aes_128_cfb();

}  // namespace

SecretSession::SecretSession(Tpm& tpm, Tpm::Impl& impl, uint32_t handle, Bytes key, Bytes their_nonce)
    : tpm_(&tpm),
      impl_(&impl),
      sys_(impl.sys),
      handle_(handle),
      key_(std::move(key)),
      their_nonce_(std::move(their_nonce)) {}

SecretSession::SecretSession(SecretSession&& other) noexcept
    : tpm_(other.tpm_),
      impl_(other.impl_),
      sys_(other.sys_),
      handle_(std::exchange(other.handle_, 0)),
      key_(std::move(other.key_)),
      their_nonce_(std::move(other.their_nonce_)),
      our_nonce_(std::move(other.our_nonce_)),
      attributes_(other.attributes_),
      forged_(other.forged_) {}

SecretSession::~SecretSession() {
  wipe(key_);
  if (handle_ != 0) impl_->flush(*tpm_, handle_);
}

Result<SecretSession> SecretSession::start(Tpm& tpm, Tpm::Impl& impl, const Object& salt_key) {
  TRY_ASSIGN(const auto area, tpm_wire::Public::parse(salt_key.public_area()));
  TRY_ASSIGN(const auto protector, tpm_wire::Protector::of(area));
  TRY_ASSIGN(auto salt, tpm_wire::wrap_seed(protector, "SECRET"));
  TPM2B_ENCRYPTED_SECRET secret = {};
  if (salt.secret.size() > sizeof secret.secret) return fail(Code::internal, "the session's salt is too long");
  secret.size = static_cast<UINT16>(salt.secret.size());
  std::ranges::copy(salt.secret, secret.secret);
  TPM2B_NONCE ours = {};
  ours.size = kDigestBytes;
  random_bytes(ours.buffer, ours.size);
  TPM2B_NONCE theirs = {};
  TPMI_SH_AUTH_SESSION handle = 0;
  const auto started = impl.run(tpm, "TPM2_StartAuthSession", [&] {
    theirs = {};
    theirs.size = sizeof theirs.buffer;
    return Tss2_Sys_StartAuthSession(impl.sys, salt_key.handle(), TPM2_RH_NULL, nullptr, &ours, &secret, TPM2_SE_HMAC,
                                     &kCipher, TPM2_ALG_SHA256, &handle, &theirs, nullptr);
  });
  Bytes key;
  if (started) {
    key = tpm_wire::kdf_a(HashAlg::sha256, salt.seed, "ATH", bytes_of(theirs), bytes_of(ours), kDigestBytes);
  }
  wipe(salt.seed);
  if (!started) return fail(started.error());
  return SecretSession(tpm, impl, handle, std::move(key), bytes_of(theirs));
}

Bytes SecretSession::hmac(BytesView hash, BytesView newer, BytesView older, uint8_t attributes) const {
  Bytes text = to_bytes(hash);
  append(text, newer);
  append(text, older);
  text.push_back(attributes);
  Bytes out(kDigestBytes);
  mbedtls_md_hmac(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), key_.data(), key_.size(), text.data(), text.size(),
                  out.data());
  return out;
}

TSS2_RC SecretSession::crypt(bool encrypt, BytesView newer, BytesView older, BytesView in, Bytes& out) const {
  Bytes derived = tpm_wire::kdf_a(HashAlg::sha256, key_, "CFB", newer, older, 2 * kAesBytes);
  MbedAes aes;
  size_t at = 0;
  out.resize(in.size());
  int code = mbedtls_aes_setkey_enc(aes.get(), derived.data(), kAesBytes * 8);
  if (code == 0) {
    code = mbedtls_aes_crypt_cfb128(aes.get(), encrypt ? MBEDTLS_AES_ENCRYPT : MBEDTLS_AES_DECRYPT, in.size(), &at,
                                    derived.data() + kAesBytes, in.data(), out.data());
  }
  wipe(derived);
  return code == 0 ? TSS2_RC_SUCCESS : TSS2_SYS_RC_GENERAL_FAILURE;
}

TSS2_RC SecretSession::send(const Auths& first, std::initializer_list<BytesView> names, Hides hides) {
  our_nonce_ = random_bytes(kDigestBytes);
  attributes_ = hides == Hides::command ? TPMA_SESSION_DECRYPT : TPMA_SESSION_ENCRYPT;
  if (hides == Hides::command) {
    size_t size = 0;
    const uint8_t* plain = nullptr;
    TSS2_RC rc = Tss2_Sys_GetDecryptParam(sys_, &size, &plain);
    Bytes hidden;
    if (rc == TSS2_RC_SUCCESS) rc = crypt(true, our_nonce_, their_nonce_, {plain, size}, hidden);
    if (rc == TSS2_RC_SUCCESS) rc = Tss2_Sys_SetDecryptParam(sys_, hidden.size(), hidden.data());
    if (rc != TSS2_RC_SUCCESS) return rc;
  }
  uint8_t code[4] = {};
  size_t size = 0;
  const uint8_t* parameters = nullptr;
  TSS2_RC rc = Tss2_Sys_GetCommandCode(sys_, code);
  if (rc == TSS2_RC_SUCCESS) rc = Tss2_Sys_GetCpBuffer(sys_, &size, &parameters);
  if (rc != TSS2_RC_SUCCESS) return rc;
  Bytes text = to_bytes(BytesView(code));
  for (const BytesView name : names) append(text, name);
  append(text, {parameters, size});

  TSS2L_SYS_AUTH_COMMAND all = first.value;
  TPMS_AUTH_COMMAND& mine = all.auths[all.count++];
  mine = {};
  mine.sessionHandle = handle_;
  mine.sessionAttributes = attributes_;
  mine.nonce.size = kDigestBytes;
  std::ranges::copy(our_nonce_, mine.nonce.buffer);
  mine.hmac.size = kDigestBytes;
  std::ranges::copy(hmac(sha256(text), our_nonce_, their_nonce_, attributes_), mine.hmac.buffer);
  rc = Tss2_Sys_SetCmdAuths(sys_, &all);
  wipe(&all, sizeof all);  // with the object's password
  return rc;
}

TSS2_RC SecretSession::receive(size_t place, Hides hides) {
  handle_ = 0;  // without continueSession it ended with the command
  TSS2L_SYS_AUTH_RESPONSE answers = {};
  uint8_t code[4] = {};
  size_t size = 0;
  const uint8_t* parameters = nullptr;
  TSS2_RC rc = Tss2_Sys_GetRspAuths(sys_, &answers);
  if (rc == TSS2_RC_SUCCESS) rc = Tss2_Sys_GetCommandCode(sys_, code);
  if (rc == TSS2_RC_SUCCESS) rc = Tss2_Sys_GetRpBuffer(sys_, &size, &parameters);
  if (rc != TSS2_RC_SUCCESS) return rc;
  if (answers.count <= place) return TSS2_SYS_RC_MALFORMED_RESPONSE;
  const TPMS_AUTH_RESPONSE& mine = answers.auths[place];
  Bytes text(4);  // the response code: success
  append(text, code);
  append(text, {parameters, size});
  const Bytes expected = hmac(sha256(text), bytes_of(mine.nonce), our_nonce_, mine.sessionAttributes);
  if (!tpm_wire::same_secret(bytes_of(mine.hmac), expected)) {
    forged_ = true;
    return TSS2_SYS_RC_MALFORMED_RESPONSE;
  }
  if (hides == Hides::command) return TSS2_RC_SUCCESS;
  const uint8_t* hidden = nullptr;
  rc = Tss2_Sys_GetEncryptParam(sys_, &size, &hidden);
  Bytes plain;
  if (rc == TSS2_RC_SUCCESS) rc = crypt(false, bytes_of(mine.nonce), our_nonce_, {hidden, size}, plain);
  if (rc == TSS2_RC_SUCCESS) rc = Tss2_Sys_SetEncryptParam(sys_, plain.size(), plain.data());
  wipe(plain);
  return rc;
}

TSS2_RC SecretSession::execute(const Auths& first, std::initializer_list<BytesView> names, Hides hides) {
  TSS2_RC rc = send(first, names, hides);
  if (rc == TSS2_RC_SUCCESS) rc = Tss2_Sys_Execute(sys_);
  return rc == TSS2_RC_SUCCESS ? receive(first.value.count, hides) : rc;
}

}  // namespace limpet::tpm
