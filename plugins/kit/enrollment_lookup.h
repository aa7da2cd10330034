// SPDX-License-Identifier: Apache-2.0
#pragma once
// Asks limpet.enrollment/1 from a BLOCKING plugin's own thread, which is woken by the plugin's cancel. One question at
// a time, as such a plugin has one call at a time; a late answer to an earlier one is nobody's. Member of the instance.

#include <limpet_plugin.h>

#include <atomic>
#include <string>

#include "base/result.h"
#include "kit/host_wait.h"

namespace limpet::kit {

class EnrollmentLookup {
 public:
  explicit EnrollmentLookup(const limpet_host* host);
  EnrollmentLookup(const EnrollmentLookup&) = delete;
  EnrollmentLookup& operator=(const EnrollmentLookup&) = delete;

  [[nodiscard]] bool offered() const { return service_ != nullptr; }
  // Plugin's thread: the call that the next questions belong to.
  void begin(const limpet_op* op);
  // Plugin's thread. CANCELLED, DEADLINE_EXCEEDED, or what the host says; RESOURCE_EXHAUSTED when it has too many
  // questions.
  Result<bool> enrolled(const std::string& identifier);
  // Loop thread: ends this call's question.
  void cancel(const limpet_op* op);

 private:
  HostWait wait_;
  const limpet_enrollment_service* service_;
  const limpet_op* op_ = nullptr;  // plugin's thread
  std::atomic<const limpet_op*> cancelled_ = nullptr;
};

}  // namespace limpet::kit
