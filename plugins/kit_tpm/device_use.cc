// SPDX-License-Identifier: Apache-2.0
// Signing, attesting and unsealing with a TPM's objects.
#include "kit_tpm/device_impl.h"
#include "kit_tpm/secret_session.h"

namespace limpet::tpm {
namespace {

constexpr TPMT_SYM_DEF kNoCipher = {TPM2_ALG_NULL, {}, {}};

// A session, flushed unless the TPM ended it. `Impl`: Tpm's own, which only its members can name.
template <class Impl>
class Session {
 public:
  Session(Tpm& tpm, Impl& impl, uint32_t handle) : tpm_(&tpm), impl_(&impl), handle_(handle) {}
  ~Session() {
    if (handle_ != 0) impl_->flush(*tpm_, handle_);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  Session(Session&& other) noexcept : tpm_(other.tpm_), impl_(other.impl_), handle_(std::exchange(other.handle_, 0)) {}
  Session& operator=(Session&&) = delete;
  [[nodiscard]] uint32_t handle() const { return handle_; }
  void used_up() { handle_ = 0; }  // a session without continueSession ends with the command that used it

 private:
  Tpm* tpm_;
  Impl* impl_;
  uint32_t handle_;
};

template <class Impl>
Result<Session<Impl>> start_session(Tpm& tpm, Impl& impl, TPM2_SE type) {
  TPM2B_NONCE nonce = {};
  nonce.size = 16;
  random_bytes(nonce.buffer, nonce.size);
  const TPM2B_ENCRYPTED_SECRET no_salt = {};
  TPMI_SH_AUTH_SESSION handle = 0;
  TRY(impl.run(tpm, "TPM2_StartAuthSession", [&] {
    TPM2B_NONCE theirs = {};
    theirs.size = sizeof theirs.buffer;
    return Tss2_Sys_StartAuthSession(impl.sys, TPM2_RH_NULL, TPM2_RH_NULL, nullptr, &nonce, &no_salt, type, &kNoCipher,
                                     TPM2_ALG_SHA256, &handle, &theirs, nullptr);
  }));
  return Session<Impl>(tpm, impl, handle);
}

// values_digest: of the values wanted, by the session's hash; empty: those that the PCRs have now.
template <class Impl>
Result<void> policy_pcr(Tpm& tpm, Impl& impl, const Session<Impl>& session, PcrSelection pcrs,
                        BytesView values_digest = {}) {
  const TPML_PCR_SELECTION selection = selection_of(pcrs);
  TPM2B_DIGEST wanted = {};
  TRY(fill(wanted, values_digest, "the PCRs' digest"));
  return impl.run(tpm, "TPM2_PolicyPCR", [&] {
    return Tss2_Sys_PolicyPCR(impl.sys, session.handle(), nullptr, &wanted, &selection, nullptr);
  });
}

Attested attested(const TPM2B_ATTEST& attest, const TPMT_SIGNATURE& signature) {
  const size_t size = std::min<size_t>(attest.size, sizeof attest.attestationData);
  return {Bytes(attest.attestationData, attest.attestationData + size), bytes_of(signature)};
}

constexpr TPMT_SIG_SCHEME kOwnScheme = {TPM2_ALG_NULL, {}};

TPMT_SIG_SCHEME scheme_for(BytesView public_area, HashAlg alg) {
  TPMT_SIG_SCHEME out = {};
  const bool rsa = public_area.size() > 1 && public_area[1] == TPM2_ALG_RSA;
  out.scheme = rsa ? TPM2_ALG_RSASSA : TPM2_ALG_ECDSA;
  out.details.any.hashAlg = hash_of(alg);
  return out;
}

}  // namespace

Result<Bytes> Tpm::Impl::sign(Tpm& tpm, uint32_t handle, BytesView auth, const TPMT_SIG_SCHEME& scheme,
                              const TPM2B_DIGEST& digest, const TPMT_TK_HASHCHECK& ticket) {
  Auths auths;
  auths.password(auth);
  TPMT_SIGNATURE signature = {};
  TRY(run(tpm, "TPM2_Sign", [&] {
    signature = {};
    TSS2L_SYS_AUTH_RESPONSE answers = {};
    return Tss2_Sys_Sign(sys, handle, &auths.value, &digest, &scheme, &ticket, &signature, &answers);
  }));
  return plain_signature(bytes_of(signature));
}

Result<Bytes> Tpm::sign(const Object& key, HashAlg alg, BytesView digest) {
  TPM2B_DIGEST data = {};
  TRY(fill(data, digest, "the digest to sign"));
  return impl_->sign(*this, key.handle_, key.auth_.view(), scheme_for(key.public_area_, alg), data,
                     {TPM2_ST_HASHCHECK, TPM2_RH_NULL, {}});
}

Result<Bytes> Tpm::sign_pss(const Object& key, HashAlg alg, BytesView digest) {
  TPM2B_DIGEST data = {};
  TRY(fill(data, digest, "the digest to sign"));
  TPMT_SIG_SCHEME scheme = scheme_for(key.public_area_, alg);
  if (scheme.scheme != TPM2_ALG_RSASSA) return fail(Code::invalid_argument, "PSS is for RSA keys; this one is not");
  scheme.scheme = TPM2_ALG_RSAPSS;
  return impl_->sign(*this, key.handle_, key.auth_.view(), scheme, data, {TPM2_ST_HASHCHECK, TPM2_RH_NULL, {}});
}

Result<Bytes> Tpm::sign_message(const Object& key, HashAlg alg, BytesView message) {
  TPM2B_MAX_BUFFER data = {};
  TRY(fill(data, message, "the message to sign"));
  TPM2B_DIGEST digest = {};
  TPMT_TK_HASHCHECK ticket = {};
  TRY(impl_->run(*this, "TPM2_Hash", [&] {
    digest = {};
    digest.size = sizeof digest.buffer;
    ticket = {};
    return Tss2_Sys_Hash(impl_->sys, nullptr, &data, hash_of(alg), TPM2_RH_OWNER, &digest, &ticket, nullptr);
  }));
  return impl_->sign(*this, key.handle_, key.auth_.view(), scheme_for(key.public_area_, alg), digest, ticket);
}

Result<Attested> Tpm::certify_creation(const Object& object, const Object& signer, const Created& created,
                                       BytesView qualifying) {
  TPM2B_DATA extra = {};
  TRY(fill(extra, qualifying, "the qualifying data"));
  TPM2B_DIGEST hash = {};
  TRY(fill(hash, created.creation_hash, "the creation hash"));
  TPMT_TK_CREATION ticket = {};
  size_t at = 0;
  if (Tss2_MU_TPMT_TK_CREATION_Unmarshal(created.creation_ticket.data(), created.creation_ticket.size(), &at,
                                         &ticket) != TSS2_RC_SUCCESS) {
    return fail(Code::invalid_argument, "malformed creation ticket");
  }
  Auths auths;
  auths.password(signer.auth_.view());
  TPM2B_ATTEST attest = {};
  TPMT_SIGNATURE signature = {};
  TRY(impl_->run(*this, "TPM2_CertifyCreation", [&] {
    attest = {};
    attest.size = sizeof attest.attestationData;
    signature = {};
    TSS2L_SYS_AUTH_RESPONSE answers = {};
    return Tss2_Sys_CertifyCreation(impl_->sys, signer.handle_, object.handle_, &auths.value, &extra, &hash,
                                    &kOwnScheme, &ticket, &attest, &signature, &answers);
  }));
  return attested(attest, signature);
}

Result<Attested> Tpm::certify(const Object& object, const Object& signer, BytesView qualifying) {
  TPM2B_DATA extra = {};
  TRY(fill(extra, qualifying, "the qualifying data"));
  Auths auths;
  auths.password(object.auth_.view()).password(signer.auth_.view());
  TPM2B_ATTEST attest = {};
  TPMT_SIGNATURE signature = {};
  TRY(impl_->run(*this, "TPM2_Certify", [&] {
    attest = {};
    attest.size = sizeof attest.attestationData;
    signature = {};
    TSS2L_SYS_AUTH_RESPONSE answers = {};
    return Tss2_Sys_Certify(impl_->sys, object.handle_, signer.handle_, &auths.value, &extra, &kOwnScheme, &attest,
                            &signature, &answers);
  }));
  return attested(attest, signature);
}

Result<Attested> Tpm::quote(const Object& signer, BytesView qualifying, std::span<const PcrSelection> pcrs) {
  TPM2B_DATA extra = {};
  TRY(fill(extra, qualifying, "the qualifying data"));
  TPML_PCR_SELECTION selection = {};
  if (pcrs.size() > std::size(selection.pcrSelections))
    return fail(Code::invalid_argument, "a quote of too many banks");
  for (const PcrSelection& one : pcrs) selection.pcrSelections[selection.count++] = selection_of(one).pcrSelections[0];
  Auths auths;
  auths.password(signer.auth_.view());
  TPM2B_ATTEST attest = {};
  TPMT_SIGNATURE signature = {};
  TRY(impl_->run(*this, "TPM2_Quote", [&] {
    attest = {};
    attest.size = sizeof attest.attestationData;
    signature = {};
    TSS2L_SYS_AUTH_RESPONSE answers = {};
    return Tss2_Sys_Quote(impl_->sys, signer.handle_, &auths.value, &extra, &kOwnScheme, &selection, &attest,
                          &signature, &answers);
  }));
  return attested(attest, signature);
}

Result<SecretBytes> Tpm::activate_credential(const Object& object, const Object& ek, BytesView credential,
                                             BytesView secret) {
  TPM2B_ID_OBJECT blob = {};
  TPM2B_ENCRYPTED_SECRET seed = {};
  if (credential.size() > sizeof blob.credential || secret.size() > sizeof seed.secret) {
    return fail(Code::invalid_argument, "the credential is longer than a TPM takes");
  }
  blob.size = static_cast<UINT16>(credential.size());
  std::ranges::copy(credential, blob.credential);
  seed.size = static_cast<UINT16>(secret.size());
  std::ranges::copy(secret, seed.secret);

  TRY_ASSIGN(Session<Impl> session, start_session(*this, *impl_, TPM2_SE_POLICY));
  Auths endorsement;
  endorsement.password(impl_->settings.endorsement_auth.view());
  TRY(impl_->run(*this, "TPM2_PolicySecret", [&] {
    const TPM2B_NONCE no_nonce = {};
    const TPM2B_DIGEST no_digest = {};
    TPM2B_TIMEOUT timeout = {};
    timeout.size = sizeof timeout.buffer;
    TPMT_TK_AUTH ticket = {};
    TSS2L_SYS_AUTH_RESPONSE answers = {};
    return Tss2_Sys_PolicySecret(impl_->sys, TPM2_RH_ENDORSEMENT, session.handle(), &endorsement.value, &no_nonce,
                                 &no_digest, &no_nonce, 0, &timeout, &ticket, &answers);
  }));
  Auths auths;
  auths.password(object.auth_.view()).session(session.handle());
  TPM2B_DIGEST inside = {};
  TRY(impl_->run(*this, "TPM2_ActivateCredential", [&] {
    inside = {};
    inside.size = sizeof inside.buffer;
    TSS2L_SYS_AUTH_RESPONSE answers = {};
    return Tss2_Sys_ActivateCredential(impl_->sys, object.handle_, ek.handle_, &auths.value, &blob, &seed, &inside,
                                       &answers);
  }));
  session.used_up();
  SecretBytes out(BytesView(inside.buffer, std::min<size_t>(inside.size, sizeof inside.buffer)));
  wipe(&inside, sizeof inside);
  return out;
}

// Without the digest of the values a TPM may refuse a trial session (Library Part 3, TPM2_PolicyPCR).
Result<Bytes> Tpm::pcr_policy(PcrSelection pcrs, const std::vector<Bytes>& values) {
  Bytes all;
  for (const Bytes& value : values) append(all, value);
  TRY_ASSIGN(const Session<Impl> session, start_session(*this, *impl_, TPM2_SE_TRIAL));
  TRY(policy_pcr(*this, *impl_, session, pcrs, sha256(all)));
  TPM2B_DIGEST digest = {};
  TRY(impl_->run(*this, "TPM2_PolicyGetDigest", [&] {
    digest = {};
    digest.size = sizeof digest.buffer;
    return Tss2_Sys_PolicyGetDigest(impl_->sys, session.handle(), nullptr, &digest, nullptr);
  }));
  return bytes_of(digest);
}

Result<SecretBytes> Tpm::Impl::unseal(Tpm& tpm, const Object& object, SecretSession& hidden, PcrSelection pcrs) {
  Auths auths;
  std::optional<Session<Impl>> session;
  if (pcrs.mask == 0) {
    auths.password(object.auth_.view());
  } else {
    TRY_ASSIGN(Session<Impl> policy, start_session(tpm, *this, TPM2_SE_POLICY));
    TRY(policy_pcr(tpm, *this, policy, pcrs));
    auths.session(policy.handle());
    session.emplace(std::move(policy));
  }
  TPM2B_SENSITIVE_DATA inside = {};
  const auto done = run(tpm, "TPM2_Unseal", [&] {
    inside = {};
    inside.size = sizeof inside.buffer;
    TSS2_RC rc = Tss2_Sys_Unseal_Prepare(sys, object.handle_);
    if (rc == TSS2_RC_SUCCESS) rc = hidden.execute(auths, {object.name_}, SecretSession::Hides::answer);
    return rc == TSS2_RC_SUCCESS ? Tss2_Sys_Unseal_Complete(sys, &inside) : rc;
  });
  if (hidden.forged()) return fail(forged_answer("TPM2_Unseal"));
  if (!done) return fail(done.error());
  if (session) session->used_up();
  SecretBytes out(BytesView(inside.buffer, std::min<size_t>(inside.size, sizeof inside.buffer)));
  wipe(&inside, sizeof inside);
  return out;
}

// An extend of any PCR ends every policy that was met before (Part 3, TPM2_PolicyPCR), and says nothing of
// those in this one: so there is as little as can be between the policy and its use, and it is made anew.
Result<SecretBytes> Tpm::unseal(const Object& object, const Object& parent, PcrSelection pcrs) {
  constexpr int kMostPolicies = 10;
  TRY_ASSIGN(SecretSession hidden, SecretSession::start(*this, *impl_, parent));
  for (int attempt = 1;; ++attempt) {
    auto opened = impl_->unseal(*this, object, hidden, pcrs);
    if (opened || base_code(last_rc_) != kRcPcrChanged || attempt == kMostPolicies) return opened;
  }
}

}  // namespace limpet::tpm
