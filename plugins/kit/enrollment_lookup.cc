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
    : wait_(host),
      service_(static_cast<const limpet_enrollment_service*>(host->service(host, LIMPET_SERVICE_ENROLLMENT))) {}

void EnrollmentLookup::begin(const limpet_op* op) {
  op_ = op;
  cancelled_ = nullptr;
}

Result<bool> EnrollmentLookup::enrolled(const std::string& identifier) {
  if (cancelled_ == op_) return fail(Code::cancelled, "no longer wanted");
  return wait_.run<bool>(op_, [identifier, service = service_, host = wait_.host()](void* arg) {
    return service->start(host, lend(identifier), &on_answer, arg);
  });
}

void EnrollmentLookup::cancel(const limpet_op* op) {
  cancelled_ = op;
  wait_.cancel(op);
}

}  // namespace limpet::kit
