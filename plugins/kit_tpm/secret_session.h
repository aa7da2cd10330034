// SPDX-License-Identifier: Apache-2.0
#pragma once
// A session that keeps the secret of one command from whoever listens between CPU and TPM (Part 1, 19 and 21): an HMAC
// session salted with a storage key, its first parameter under AES-128-CFB, the answer authenticated. It stands beside
// the command's own authorization and ends with the command. For kit_tpm's own use.

#include "kit_tpm/device_impl.h"

namespace limpet::tpm {

class SecretSession {
 public:
  // `salt_key`: a loaded storage key, whose private half only this TPM has.
  static Result<SecretSession> start(Tpm& tpm, Tpm::Impl& impl, const Object& salt_key);
  SecretSession(SecretSession&& other) noexcept;
  SecretSession& operator=(SecretSession&&) = delete;
  ~SecretSession();

  enum class Hides { command, answer };
  // Runs the command that is prepared in the tss2-sys context, with `first` for its first handle and the session after
  // it. `names`: those of all its handles. What it hides is the command's or the answer's first parameter.
  TSS2_RC execute(const Auths& first, std::initializer_list<BytesView> names, Hides hides);
  // execute() gave an answer that the TPM did not make.
  [[nodiscard]] bool forged() const { return forged_; }

 private:
  SecretSession(Tpm& tpm, Tpm::Impl& impl, uint32_t handle, Bytes key, Bytes their_nonce);
  [[nodiscard]] Bytes hmac(BytesView hash, BytesView newer, BytesView older, uint8_t attributes) const;
  TSS2_RC crypt(bool encrypt, BytesView newer, BytesView older, BytesView in, Bytes& out) const;
  TSS2_RC send(const Auths& first, std::initializer_list<BytesView> names, Hides hides);
  TSS2_RC receive(size_t place, Hides hides);

  Tpm* tpm_;
  Tpm::Impl* impl_;
  TSS2_SYS_CONTEXT* sys_;
  uint32_t handle_;  // 0: ended
  Bytes key_;
  Bytes their_nonce_;
  Bytes our_nonce_;
  uint8_t attributes_ = 0;
  bool forged_ = false;
};

}  // namespace limpet::tpm
