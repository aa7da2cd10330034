// SPDX-License-Identifier: Apache-2.0
#include "kit/enrollment_lookup.h"

#include <chrono>

#include "kit/kit.h"

namespace limpet::kit {
namespace {
constexpr std::chrono::seconds kAnswerTime(10);  // a look into the store takes none of it
}

EnrollmentLookup::EnrollmentLookup(const limpet_host* host)
    : host_(host),
      service_(static_cast<const limpet_enrollment_service*>(host->service(host, LIMPET_SERVICE_ENROLLMENT))) {}

void EnrollmentLookup::begin(const limpet_op* op) {
  const std::lock_guard lock(mutex_);
  op_ = op;
  cancelled_ = false;
}

Result<bool> EnrollmentLookup::enrolled(const std::string& identifier) {
  std::unique_lock lock(mutex_);
  if (cancelled_) return fail(Code::cancelled, "no longer wanted");
  identifier_ = identifier;
  result_.reset();
  host_->post(host_, &on_loop, this);  // this outlives it: what was posted dies with the host's instance
  const bool ended = wake_.wait_for(lock, kAnswerTime, [this] { return result_ || cancelled_; });
  if (!ended) return fail(Code::unavailable, "the server does not answer");
  if (!result_) return fail(Code::cancelled, "no longer wanted");
  return std::move(*result_);
}

void EnrollmentLookup::on_loop(void* arg) { static_cast<EnrollmentLookup*>(arg)->start(); }

void EnrollmentLookup::start() {
  std::string identifier;
  {
    const std::lock_guard lock(mutex_);
    identifier = identifier_;
  }
  if (call_ != 0) service_->stop(host_, call_);
  call_ = service_->start(host_, lend(identifier), &on_answer, this);
  if (call_ == 0) answer(fail(Code::resource_exhausted, "too many attestations at a time; try again"));
}

void EnrollmentLookup::on_answer(void* arg, const limpet_status* err, const limpet_enrollment* found) {
  auto* self = static_cast<EnrollmentLookup*>(arg);
  self->call_ = 0;
  if (err == nullptr) return self->answer(found->enrolled != 0);
  self->answer(fail(static_cast<Code>(err->code), std::string(view(err->message))));
}

void EnrollmentLookup::answer(Result<bool> result) {
  const std::lock_guard lock(mutex_);
  result_ = std::move(result);
  wake_.notify_all();
}

void EnrollmentLookup::cancel(const limpet_op* op) {
  const std::lock_guard lock(mutex_);
  if (op != op_) return;
  cancelled_ = true;
  wake_.notify_all();
}

}  // namespace limpet::kit
