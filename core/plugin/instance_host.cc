// SPDX-License-Identifier: Apache-2.0
// What an instance offers its plugin: log, post, time left, timers and watched descriptors; calls of other services are
// in instance_calls.cc.
#include "plugin/instance_host.h"

#include <cstring>

#include "plugin/borrow.h"
#include "plugin/shim_component.h"

namespace limpet {
const void* Instance::host_service(const limpet_host* host, const char* id) {
  static constexpr limpet_timer_service kTimers = {sizeof(limpet_timer_service), 0, &timer_start, &timer_stop};
  static constexpr limpet_poll_service kPoll = {sizeof(limpet_poll_service), 0, &poll_watch, &poll_unwatch};
  if (id == nullptr) return nullptr;
  if (std::strcmp(id, LIMPET_SERVICE_TIMER) == 0) return &kTimers;
  if (std::strcmp(id, shim::kComponentService) == 0) return &static_cast<Instance*>(host->ctx)->component_;
  if (std::strcmp(id, LIMPET_SERVICE_POLL) == 0) {
    return static_cast<Instance*>(host->ctx)->services_.poll != nullptr ? &kPoll : nullptr;
  }
  return static_cast<Instance*>(host->ctx)->call_service(id);
}

void Instance::host_log(const limpet_host* host, int32_t level, limpet_str message, const limpet_field* fields,
                        size_t count) {
  static constexpr LogLevel kLevels[] = {LogLevel::error, LogLevel::warn, LogLevel::info, LogLevel::debug};
  static constexpr size_t kMaxFields = 16;
  auto* self = static_cast<Instance*>(host->ctx);
  const LogLevel ours = level >= 1 && level <= 4 ? kLevels[level - 1] : LogLevel::debug;
  const std::lock_guard lock(self->mutex_);  // held to the end: the logger dies after abandon() had it
  if (self->mute_ || !self->logger_.enabled(ours)) return;
  std::string details;
  for (size_t i = 0; fields != nullptr && i < std::min(count, kMaxFields); ++i) {
    details += (i > 0 ? " " : "") + bounded(fields[i].key) + "=" + bounded(fields[i].value);
  }
  if (details.empty()) return self->logger_.log(ours, bounded(message), {{"plugin", self->label_}});
  self->logger_.log(ours, bounded(message), {{"plugin", self->label_}, {"details", details}});
}

void Instance::host_post(const limpet_host* host, void (*fn)(void*), void* arg) {
  static_cast<Instance*>(host->ctx)->post([fn, arg] { fn(arg); });
}

int64_t Instance::host_time_left(const limpet_host*, const limpet_op* op) {
  using Steady = std::chrono::steady_clock;
  if (op->deadline == Steady::time_point::max()) return INT64_MAX;
  return std::chrono::duration_cast<std::chrono::milliseconds>(op->deadline - Steady::now()).count();
}

void Instance::HostTimer::fire() {
  const auto keep = owner->timers_.extract(id);  // the callback may start or stop others
  fn(arg);
}

uint32_t Instance::timer_start(const limpet_host* host, uint32_t ms, void (*fn)(void*), void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  while (++self->last_timer_ == 0 || self->timers_.contains(self->last_timer_)) {
  }
  auto timer = std::make_unique<HostTimer>(self->timers_loop_);
  timer->owner = self;
  timer->id = self->last_timer_;
  timer->fn = fn;
  timer->arg = arg;
  timer->timer.start<&HostTimer::fire>(ms, timer.get());
  self->timers_.emplace(self->last_timer_, std::move(timer));
  return self->last_timer_;
}

void Instance::timer_stop(const limpet_host* host, uint32_t id) {
  static_cast<Instance*>(host->ctx)->timers_.erase(id);
}

int32_t Instance::poll_watch(const limpet_host* host, int32_t fd, uint32_t events, PollWatches::Fn fn, void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  return self->watches_.watch(*self->services_.poll, fd, events, fn, arg, self->self_);
}

void Instance::poll_unwatch(const limpet_host* host, int32_t fd) {
  static_cast<Instance*>(host->ctx)->watches_.unwatch(fd);
}

}  // namespace limpet
