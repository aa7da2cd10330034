// SPDX-License-Identifier: Apache-2.0
#pragma once
// Asks limpet.enrollment/1 from a BLOCKING plugin's own thread. Member of the instance.

#include <string>

#include "kit/host_wait.h"

namespace limpet::kit {

class EnrollmentLookup : public HostWait {
 public:
  explicit EnrollmentLookup(const limpet_host* host);
  [[nodiscard]] bool offered() const { return service_ != nullptr; }
  // Plugin's thread. CANCELLED, DEADLINE_EXCEEDED, or what the host says; RESOURCE_EXHAUSTED when it has too many
  // questions.
  Result<bool> enrolled(const std::string& identifier);

 private:
  const limpet_enrollment_service* service_;
};

}  // namespace limpet::kit
