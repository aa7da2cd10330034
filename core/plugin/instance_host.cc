// SPDX-License-Identifier: Apache-2.0
// The services an instance offers its plugin: log, post, time left, timers, gRPC calls. There is no poll service yet:
// service() answers NULL for it, as the ABI allows.
#include "plugin/instance_host.h"

#include <cstring>

#include "base/limits.h"

namespace limpet {
namespace {

std::string bounded(limpet_str text) {
  if (text.ptr == nullptr) return {};
  return std::string(text.ptr, std::min(text.len, limits::kPluginTextBytes));
}

}  // namespace

const void* Instance::host_service(const limpet_host* host, const char* id) {
  static constexpr limpet_grpc_service kGrpc = {sizeof(limpet_grpc_service), 0, &grpc_start, &grpc_stop};
  static constexpr limpet_timer_service kTimers = {sizeof(limpet_timer_service), 0, &timer_start, &timer_stop};
  if (id != nullptr && std::strcmp(id, LIMPET_SERVICE_TIMER) == 0) return &kTimers;
  if (id != nullptr && std::strcmp(id, LIMPET_SERVICE_GRPC) == 0)
    return static_cast<Instance*>(host->ctx)->grpc_ != nullptr ? &kGrpc : nullptr;
  return nullptr;
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

void Instance::HostCall::on_reply(Result<Bytes> reply) {
  const auto keep_instance = owner->self_.lock();
  const auto keep = owner->calls_.extract(id);  // the callback may start or stop others
  if (reply) return done(arg, nullptr, {reply->data(), reply->size()});
  const std::string& text = reply.error().message;
  const limpet_status status = {
      sizeof(limpet_status), static_cast<limpet_code>(reply.error().code), {text.data(), text.size()}, 0, 0};
  done(arg, &status, {});
}

uint32_t Instance::grpc_start(const limpet_host* host, const limpet_grpc_call* call, limpet_grpc_done done, void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  if (!LIMPET_HAS(call, limpet_grpc_call, timeout_ms) || call->port == 0 || call->port > UINT16_MAX) return 0;
  if (call->timeout_ms == 0 || self->calls_.size() >= limits::kPluginCalls) return 0;
  if (call->request.len > limits::kMessageBytes || (call->request.ptr == nullptr && call->request.len > 0)) return 0;
  GrpcRequest request;
  request.host = bounded(call->host);
  request.port = static_cast<uint16_t>(call->port);
  request.trust_domain = bounded(call->trust_domain);
  request.socket_path = bounded(call->workload_api_socket);
  request.method = bounded(call->method);
  request.message.assign(call->request.ptr, call->request.ptr + call->request.len);
  request.timeout_ms = call->timeout_ms;
  while (++self->last_call_ == 0 || self->calls_.contains(self->last_call_)) {
  }
  auto started = std::make_unique<HostCall>();
  started->owner = self;
  started->id = self->last_call_;
  started->done = done;
  started->arg = arg;
  HostCall& kept = *self->calls_.emplace(self->last_call_, std::move(started)).first->second;
  self->grpc_->call(std::move(request), kept.replied.then<&HostCall::on_reply>(&kept));
  return kept.id;
}

void Instance::grpc_stop(const limpet_host* host, uint32_t id) { static_cast<Instance*>(host->ctx)->calls_.erase(id); }

}  // namespace limpet
