// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the device*.cc files share: one connection with its tss2-sys context, and tss2's structures from and to bytes.

#include <tss2/tss2_mu.h>
#include <tss2/tss2_sys.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <optional>
#include <thread>

#include "kit_tpm/device.h"

namespace limpet::tpm {

class SecretSession;

// A transport in the shape that tss2-sys calls. Its first member must be tss2's.
struct Tcti {
  TSS2_TCTI_CONTEXT_COMMON_V1 common = {};
  std::unique_ptr<Transport> transport;
  int64_t answer_ms = 0;
  Bytes answer;                // a response that was asked for its size first
  std::optional<Error> error;  // why the transport failed
};

struct Tpm::Impl {
  explicit Impl(const DeviceSettings& with) : settings(with) {}
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  const DeviceSettings& settings;
  Tcti tcti;
  SecretBytes memory;  // of `sys`: passwords and decrypted answers pass through it
  TSS2_SYS_CONTEXT* sys = nullptr;
  std::vector<uint32_t> loaded;  // handles to flush

  // Runs a tss2-sys call, again while the TPM says it is busy. `call` sets its outputs anew each time.
  template <class Call>
  Result<void> repeat(Tpm& tpm, const char* command, Call call);
  // Likewise; a TPM that nobody started is started.
  template <class Call>
  Result<void> run(Tpm& tpm, const char* command, Call call);
  Result<void> startup(Tpm& tpm);
  void flush(Tpm& tpm, uint32_t handle);  // of an object or a session; last_rc() and last_command() stay
  // The signature as plain_signature() has it. `ticket`: that the TPM made the digest, where the key insists on it.
  Result<Bytes> sign(Tpm& tpm, uint32_t handle, BytesView auth, const TPMT_SIG_SCHEME& scheme,
                     const TPM2B_DIGEST& digest, const TPMT_TK_HASHCHECK& ticket);
  // One attempt; `hidden` is used up when it succeeds.
  Result<SecretBytes> unseal(Tpm& tpm, const Object& object, SecretSession& hidden, PcrSelection pcrs);
};

template <class Call>
Result<void> Tpm::Impl::repeat(Tpm& tpm, const char* command, Call call) {
  using std::chrono::steady_clock;
  const auto end = steady_clock::now() + std::chrono::milliseconds(settings.busy_ms);
  auto pause = std::chrono::milliseconds(10);
  for (;;) {
    tpm.last_rc_ = kRcNoAnswer;
    tpm.last_command_ = command;
    // A connection that failed is not used again. (tss2-sys refuses by itself after an answer that did not come, but
    // not after a command that was not taken.)
    if (tcti.error) return fail(Error(*tcti.error));
    const TSS2_RC rc = call();
    if (tcti.error) return fail(Error(*tcti.error).within(command));
    tpm.last_rc_ = rc;
    if (rc == TPM2_RC_SUCCESS) return {};
    if (!asks_for_retry(rc) || steady_clock::now() + pause > end) return fail(error_of(command, rc));
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(500));
  }
}

template <class Call>
Result<void> Tpm::Impl::run(Tpm& tpm, const char* command, Call call) {
  auto done = repeat(tpm, command, call);
  if (done || tpm.last_rc_ != TPM2_RC_INITIALIZE || !tcti.transport->without_driver()) return done;
  TRY(startup(tpm));
  return repeat(tpm, command, call);
}

// What came is not what the TPM said.
inline Error forged_answer(const char* command) {
  return Error{Code::unavailable, std::string(command) +
                                      ": the answer is not authentic: something between this machine's CPU and its TPM "
                                      "changes what they say"};
}

// ---- authorizations ----
struct Auths {
  TSS2L_SYS_AUTH_COMMAND value = {};
  Auths() = default;
  Auths& password(BytesView secret);
  Auths& session(uint32_t handle);
  ~Auths() { wipe(&value, sizeof value); }
};

// ---- bytes to and from tss2's structures ----
template <class T>
Result<void> fill(T& out, BytesView from, const char* what) {  // a TPM2B with `buffer`
  if (from.size() > sizeof out.buffer) {
    return fail(Code::invalid_argument, std::string(what) + " has " + std::to_string(from.size()) + " bytes, at most " +
                                            std::to_string(sizeof out.buffer) + " fit");
  }
  out.size = static_cast<UINT16>(from.size());
  if (!from.empty()) std::memcpy(out.buffer, from.data(), from.size());
  return {};
}
template <class T>
Bytes bytes_of(const T& from) {  // a TPM2B with `buffer`
  return Bytes(from.buffer, from.buffer + std::min<size_t>(from.size, sizeof from.buffer));
}
Result<TPM2B_PUBLIC> public_of(BytesView area);
Bytes bytes_of(const TPMT_PUBLIC& area);
Bytes bytes_of(const TPMT_SIGNATURE& signature);
inline Bytes name_of(const TPM2B_NAME& name) {
  return Bytes(name.name, name.name + std::min<size_t>(name.size, sizeof name.name));
}
TPMI_ALG_HASH hash_of(HashAlg alg);
TPML_PCR_SELECTION selection_of(PcrSelection pcrs);

}  // namespace limpet::tpm
