// SPDX-License-Identifier: Apache-2.0
#pragma once
// Remembers beyond the end of the process which PIN file a token refused, so that a plugin that is started again does
// not use up the token's attempts: in limpet.kv/1, by the file's path and when it was written. Nothing of the PIN is
// kept. That a PIN is being tried is noted before it is shown: where the process ends before it knows what the token
// said (the power fails), it may be tried once more, and that is all. A host without that service remembers nothing.
// Member of the instance; the plugin's thread, but for cancel.

#include <limpet_plugin.h>

#include <string>

#include "kit/host_wait.h"

namespace limpet::pkcs11 {

// What is known of a PIN.
enum class PinPast {
  none,             // it may be shown, and is noted as being tried
  refused,          // by the token
  never_told_twice  // it was tried twice, and what the token said was never noted
};

class RefusedPin {
 public:
  explicit RefusedPin(const limpet_host* host) : wait_(host) {}
  RefusedPin(const RefusedPin&) = delete;
  RefusedPin& operator=(const RefusedPin&) = delete;

  void begin(const limpet_op* op) { wait_.begin(op); }    // the call that the next ones belong to
  [[nodiscard]] bool wanted() { return wait_.wanted(); }  // somebody waits for that call still
  // Before the PIN is shown. UNAVAILABLE: the host cannot say or note it just now, so the PIN must not be shown.
  Result<PinPast> begin_try(const std::string& token, const std::string& written);
  // When the token has answered; also when the call has no time left for it. An error: it counts as not answered.
  Result<void> end_try(const std::string& token, const std::string& written, bool refused);
  void cancel(const limpet_op* op) { wait_.cancel(op); }  // [loop]

 private:
  [[nodiscard]] const limpet_kv_service* service() const;
  Result<void> keep(const std::string& token, const std::string& value);
  kit::HostWait wait_;
};

}  // namespace limpet::pkcs11
