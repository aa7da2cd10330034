// SPDX-License-Identifier: Apache-2.0
#include "kit/enrollment_lookup.h"

#include "kit/kit.h"

namespace limpet::kit {
namespace {

void on_answer(void* arg, const limpet_status* err, const limpet_enrollment* found) {
  if (err != nullptr) return HostWait::finish<bool>(arg, fail(error_of(*err)));
  HostWait::finish<bool>(arg, found->enrolled != 0);
}

}  // namespace

EnrollmentLookup::EnrollmentLookup(const limpet_host* host)
    : HostWait(host),
      service_(static_cast<const limpet_enrollment_service*>(host->service(host, LIMPET_SERVICE_ENROLLMENT))) {}

Result<bool> EnrollmentLookup::enrolled(const std::string& identifier) {
  return run<bool>([identifier, service = service_, on = host()](void* arg) {
    return service->start(on, lend(identifier), &on_answer, arg);
  });
}

}  // namespace limpet::kit
