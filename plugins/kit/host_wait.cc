// SPDX-License-Identifier: Apache-2.0
#include "kit/host_wait.h"

#include <algorithm>
#include <chrono>

#include "kit/kit.h"

namespace limpet::kit {

Error error_of(const limpet_status& status) {
  return {static_cast<Code>(status.code), std::string(view(status.message))};
}

// A cancel may have come before the plugin's thread did; one of an earlier op is past.
void HostWait::begin(const limpet_op* op) {
  const std::lock_guard lock(mutex_);
  op_ = op;
  if (cancelled_ != op) cancelled_ = nullptr;
}

bool HostWait::wanted() {
  if (host_->time_left_ms(host_, op_) <= 0) return false;
  const std::lock_guard lock(mutex_);
  return !cancelled();
}

Result<void> HostWait::wait(std::unique_ptr<Call> call) {
  constexpr int64_t kMostMs = 120'000;
  constexpr int64_t kAnywayMs = 1'000;  // less than a host waits for a plugin that is stopped
  const int64_t left = call->anyway ? kAnywayMs : std::clamp<int64_t>(host_->time_left_ms(host_, op_), 0, kMostMs);
  Call* waiting = call.get();
  std::unique_lock lock(mutex_);
  const auto given_up = [&] { return !waiting->anyway && cancelled(); };
  if (given_up()) return fail(Code::cancelled, "the call was given up");
  calls_.push_back(std::move(call));
  host_->post(host_, &HostWait::start_call, waiting);
  ready_.wait_for(lock, std::chrono::milliseconds(left), [&] { return waiting->done || given_up(); });
  if (!waiting->done) {
    waiting->abandoned = true;
    return given_up() ? fail(Code::cancelled, "the call was given up")
                      : fail(Code::deadline_exceeded, "the host did not answer in time");
  }
  const auto place = std::ranges::find_if(calls_, [waiting](const auto& one) { return one.get() == waiting; });
  last_ = std::move(*place);
  calls_.erase(place);
  return {};
}

void HostWait::start_call(void* arg) {
  auto* call = static_cast<Call*>(arg);
  HostWait* self = call->owner;
  bool abandoned = false;
  {
    const std::lock_guard lock(self->mutex_);
    abandoned = call->abandoned;
  }
  if ((!abandoned || call->anyway) && call->start(call) != 0) return;
  call->refuse({Code::resource_exhausted, "the host takes no further call of this plugin"});
  self->answered(call);
}

void HostWait::answered(Call* call) {
  const std::lock_guard lock(mutex_);
  call->done = true;
  if (call->abandoned)
    std::erase_if(calls_, [call](const auto& one) { return one.get() == call; });
  else
    ready_.notify_all();
}

void HostWait::cancel(const limpet_op* op) {
  const std::lock_guard lock(mutex_);
  cancelled_ = op;
  ready_.notify_all();
}

}  // namespace limpet::kit
