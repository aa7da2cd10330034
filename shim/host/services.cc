// SPDX-License-Identifier: Apache-2.0
// What a plugin is offered in the child. Log records and calls of services go to the daemon; time, timers, polls and
// posts are ours.
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "plugin/loader.h"
#include "plugin_host.h"

namespace limpet::shim {
namespace {

constexpr size_t kCalls = 16;        // as limits::kPluginCalls
constexpr size_t kFields = 16;       // of a log record
constexpr size_t kTextBytes = 8192;  // of a log record's texts
constexpr size_t kWatches = 64;

PluginHost& of(const limpet_host* host) { return *static_cast<PluginHost*>(host->ctx); }

void put_cut(FrameWriter& out, limpet_str text) {
  out.bytes(text.ptr == nullptr ? "" : text.ptr, text.ptr == nullptr ? 0 : std::min(text.len, kTextBytes));
}

template <class Done>
Done as(void (*done)()) {
  return reinterpret_cast<Done>(done);
}
template <class Done>
void (*plain(Done done))() {
  return reinterpret_cast<void (*)()>(done);
}

}  // namespace

const void* PluginHost::service(const limpet_host* host, const char* id) {
  static constexpr limpet_timer_service kTimers = {sizeof(limpet_timer_service), 0, &timer_start, &timer_stop};
  static constexpr limpet_poll_service kPoll = {sizeof(limpet_poll_service), 0, &watch, &unwatch};
  static constexpr limpet_grpc_service kGrpc = {sizeof(limpet_grpc_service), 0, &grpc_start, &call_stop};
  static constexpr limpet_http_service kHttp = {sizeof(limpet_http_service), 0, &http_start, &call_stop};
  static constexpr limpet_agent_store_service kAgents = {sizeof(limpet_agent_store_service), 0, &agent_start,
                                                         &call_stop};
  static constexpr limpet_enrollment_service kEnrollment = {sizeof(limpet_enrollment_service), 0, &enrollment_start,
                                                            &call_stop};
  static constexpr limpet_kv_service kKv = {sizeof(limpet_kv_service),   0,         &kv_start<KvAction::get>, &kv_put,
                                            &kv_start<KvAction::remove>, &call_stop};
  static constexpr limpet_keys_service kKeys = {sizeof(limpet_keys_service), 0, &keys_find, &keys_sign, &call_stop};
  static constexpr limpet_seal_service kSeal = {sizeof(limpet_seal_service), 0, &seal_start<SealAction::seal>,
                                                &seal_start<SealAction::unseal>, &call_stop};
  static constexpr limpet_identity_service kIdentity = {sizeof(limpet_identity_service), 0, &identity_get};
  if (id == nullptr) return nullptr;
  const auto is = [id](const char* name) { return std::strcmp(id, name) == 0; };
  const auto offered = [host](Service s, const void* table) {
    return (of(host).services_ & static_cast<uint32_t>(s)) != 0 ? table : nullptr;
  };
  if (is(LIMPET_SERVICE_TIMER)) return &kTimers;
  if (is(LIMPET_SERVICE_POLL)) return &kPoll;
  if (is(LIMPET_SERVICE_GRPC)) return offered(Service::grpc, &kGrpc);
  if (is(LIMPET_SERVICE_HTTP)) return offered(Service::http, &kHttp);
  if (is(LIMPET_SERVICE_AGENT_STORE)) return offered(Service::agent_store, &kAgents);
  if (is(LIMPET_SERVICE_ENROLLMENT)) return offered(Service::enrollment, &kEnrollment);
  if (is(LIMPET_SERVICE_KV)) return offered(Service::kv, &kKv);
  if (is(LIMPET_SERVICE_KEYS)) return offered(Service::keys, &kKeys);
  if (is(LIMPET_SERVICE_SEAL)) return offered(Service::seal, &kSeal);
  if (is(LIMPET_SERVICE_IDENTITY)) return offered(Service::identity, &kIdentity);
  return nullptr;
}

void PluginHost::log(const limpet_host* host, int32_t level, limpet_str message, const limpet_field* fields,
                     size_t count) {
  FrameWriter frame(Method::log, 0);
  frame.u32(static_cast<uint32_t>(level));
  put_cut(frame, message);
  const size_t most = fields == nullptr ? 0 : std::min(count, kFields);
  frame.u32(static_cast<uint32_t>(most));
  for (size_t i = 0; i < most; ++i) {
    put_cut(frame, fields[i].key);
    put_cut(frame, fields[i].value);
  }
  of(host).link_.send(std::move(frame));
}

void PluginHost::post(const limpet_host* host, void (*fn)(void*), void* arg) {
  PluginHost& self = of(host);
  {
    const std::lock_guard lock(self.mutex_);
    self.posted_.emplace_back(fn, arg);
  }
  self.wake();
}

int64_t PluginHost::time_left(const limpet_host*, const limpet_op* op) {
  return op->deadline_ms == INT64_MAX ? INT64_MAX : op->deadline_ms - monotonic_ms();
}

// ---- timers and polls ----

uint32_t PluginHost::timer_start(const limpet_host* host, uint32_t ms, void (*fn)(void*), void* arg) {
  PluginHost& self = of(host);
  const auto used = [&self](uint32_t id) {
    return std::ranges::any_of(self.timers_, [id](const auto& entry) { return entry.second.id == id; });
  };
  while (++self.last_timer_ == 0 || used(self.last_timer_)) {
  }
  self.timers_.emplace(monotonic_ms() + ms, TimerEntry{self.last_timer_, fn, arg});
  return self.last_timer_;
}

void PluginHost::timer_stop(const limpet_host* host, uint32_t id) {
  std::erase_if(of(host).timers_, [id](const auto& entry) { return entry.second.id == id; });
}

namespace {
// The daemon's loop is epoll, which refuses plain files: so do we. And the descriptor does not block from here on.
limpet_code make_watchable(int fd) {
  const int loop = ::epoll_create1(EPOLL_CLOEXEC);
  if (loop < 0) return LIMPET_RESOURCE_EXHAUSTED;
  epoll_event none = {};
  const bool fits = ::epoll_ctl(loop, EPOLL_CTL_ADD, fd, &none) == 0;
  ::close(loop);
  if (!fits) return LIMPET_INVALID_ARGUMENT;
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 ? LIMPET_OK : LIMPET_INVALID_ARGUMENT;
}
}  // namespace

int32_t PluginHost::watch(const limpet_host* host, int32_t fd, uint32_t events, void (*fn)(void*, int32_t, uint32_t),
                          void* arg) {
  PluginHost& self = of(host);
  const uint32_t wanted = events & (LIMPET_POLL_READ | LIMPET_POLL_WRITE);
  if (wanted == 0 || fn == nullptr) return LIMPET_INVALID_ARGUMENT;
  unwatch(host, fd);  // replaced; on failure nothing is watched
  if (self.watches_.size() >= kWatches) return LIMPET_RESOURCE_EXHAUSTED;
  const int duplicate = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) return errno == EBADF ? LIMPET_INVALID_ARGUMENT : LIMPET_RESOURCE_EXHAUSTED;
  if (const limpet_code code = make_watchable(duplicate); code != LIMPET_OK) {
    ::close(duplicate);
    return code;
  }
  self.watches_.push_back({++self.last_watch_, fd, duplicate, wanted, fn, arg});
  return LIMPET_OK;
}

void PluginHost::unwatch(const limpet_host* host, int32_t fd) {
  std::erase_if(of(host).watches_, [fd](const Watch& w) { return w.fd == fd && ::close(w.duplicate) == 0; });
}

// ---- calls of the daemon's services ----

uint32_t PluginHost::begin_call() {
  if (calls_.size() >= kCalls) return 0;
  while (++last_call_ == 0 || calls_.contains(last_call_)) {
  }
  return last_call_;
}

uint32_t PluginHost::send_call(uint32_t number, Service service, FrameWriter&& frame, void (*done)(), void* arg) {
  if (!frame.good()) return 0;
  calls_[number] = {service, done, arg};
  link_.send(std::move(frame));
  return number;
}

namespace {
FrameWriter call_frame(uint32_t number, Service service) {
  FrameWriter f(Method::service_call, number);
  f.u32(static_cast<uint32_t>(service));
  return f;
}
}  // namespace

uint32_t PluginHost::grpc_start(const limpet_host* host, const limpet_grpc_call* call, limpet_grpc_done done,
                                void* arg) {
  const uint32_t number = of(host).begin_call();
  if (number == 0 || !LIMPET_HAS(call, limpet_grpc_call, timeout_ms)) return 0;
  FrameWriter f = call_frame(number, Service::grpc);
  f.u32(call->port);
  put(f, call->host);
  put(f, call->trust_domain);
  put(f, call->workload_api_socket);
  put(f, call->method);
  put(f, call->request);
  f.u32(call->timeout_ms);
  return of(host).send_call(number, Service::grpc, std::move(f), plain(done), arg);
}

uint32_t PluginHost::http_start(const limpet_host* host, const limpet_http_call* call, limpet_http_done done,
                                void* arg) {
  const uint32_t number = of(host).begin_call();
  if (number == 0 || !LIMPET_HAS(call, limpet_http_call, timeout_ms)) return 0;
  FrameWriter f = call_frame(number, Service::http);
  f.u32(call->max_body);
  put(f, call->url);
  f.u32(call->timeout_ms);
  return of(host).send_call(number, Service::http, std::move(f), plain(done), arg);
}

uint32_t PluginHost::agent_start(const limpet_host* host, limpet_str id, limpet_agent_done done, void* arg) {
  const uint32_t number = of(host).begin_call();
  if (number == 0) return 0;
  FrameWriter f = call_frame(number, Service::agent_store);
  put(f, id);
  return of(host).send_call(number, Service::agent_store, std::move(f), plain(done), arg);
}

uint32_t PluginHost::enrollment_start(const limpet_host* host, limpet_str id, limpet_enrollment_done done, void* arg) {
  const uint32_t number = of(host).begin_call();
  if (number == 0) return 0;
  FrameWriter f = call_frame(number, Service::enrollment);
  put(f, id);
  return of(host).send_call(number, Service::enrollment, std::move(f), plain(done), arg);
}

namespace {
FrameWriter kv_frame(uint32_t number, KvAction action, limpet_str key, limpet_bytes value) {
  FrameWriter f = call_frame(number, Service::kv);
  f.u32(static_cast<uint32_t>(action));
  put(f, key);
  put(f, value);
  return f;
}
}  // namespace

template <KvAction A>
uint32_t PluginHost::kv_start(const limpet_host* host, limpet_str key, limpet_kv_done done, void* arg) {
  const uint32_t number = of(host).begin_call();
  if (number == 0) return 0;
  return of(host).send_call(number, Service::kv, kv_frame(number, A, key, {}), plain(done), arg);
}

uint32_t PluginHost::kv_put(const limpet_host* host, limpet_str key, limpet_bytes value, limpet_kv_done done,
                            void* arg) {
  const uint32_t number = of(host).begin_call();
  if (number == 0) return 0;
  return of(host).send_call(number, Service::kv, kv_frame(number, KvAction::put, key, value), plain(done), arg);
}

uint32_t PluginHost::keys_find(const limpet_host* host, limpet_str id, limpet_key_found_done done, void* arg) {
  const uint32_t number = of(host).begin_call();
  if (number == 0) return 0;
  FrameWriter f = call_frame(number, Service::keys);
  f.u32(static_cast<uint32_t>(KeyAction::find));
  put(f, id);
  return of(host).send_call(number, Service::keys, std::move(f), plain(done), arg);
}

uint32_t PluginHost::keys_sign(const limpet_host* host, const limpet_sign_request* request, limpet_key_used_done done,
                               void* arg) {
  const uint32_t number = of(host).begin_call();
  if (number == 0) return 0;
  FrameWriter f = call_frame(number, Service::keys);
  f.u32(static_cast<uint32_t>(KeyAction::sign));
  put(f, request);
  return of(host).send_call(number, Service::seal, std::move(f), plain(done), arg);  // as there, bytes are the answer
}

template <SealAction A>
uint32_t PluginHost::seal_start(const limpet_host* host, limpet_bytes data, limpet_bytes context, limpet_seal_done done,
                                void* arg) {
  const uint32_t number = of(host).begin_call();
  if (number == 0) return 0;
  FrameWriter f = call_frame(number, Service::seal);
  f.u32(static_cast<uint32_t>(A));
  put(f, data);
  put(f, context);
  return of(host).send_call(number, Service::seal, std::move(f), plain(done), arg);
}

void PluginHost::call_stop(const limpet_host* host, uint32_t id) {
  if (of(host).calls_.erase(id) > 0) of(host).link_.send(FrameWriter(Method::service_stop, id));
}

void PluginHost::on_service_done(const Frame& frame) {
  const auto place = calls_.find(frame.number);
  if (place == calls_.end()) return;  // stopped meanwhile
  const ServiceCall call = place->second;
  calls_.erase(place);
  const Bytes payload = to_bytes(frame.payload);  // what is told may read more frames
  FieldReader in(payload);
  limpet_status status = {};
  const limpet_status* error = get_status(in, status) ? &status : nullptr;
  switch (call.service) {
    case Service::grpc:
      return as<limpet_grpc_done>(call.done)(call.arg, error, error != nullptr ? limpet_bytes{} : get_bytes(in));
    case Service::http: {
      limpet_http_reply reply = {sizeof(limpet_http_reply), in.u32(), {}};
      reply.body = get_bytes(in);
      return as<limpet_http_done>(call.done)(call.arg, error, error != nullptr ? nullptr : &reply);
    }
    case Service::agent_store: {
      limpet_agent_info info = {sizeof(limpet_agent_info), in.u32(), {}, {}};
      info.id = get_text(in);
      info.attestation_type = get_text(in);
      return as<limpet_agent_done>(call.done)(call.arg, error, error != nullptr ? nullptr : &info);
    }
    case Service::enrollment: {
      limpet_enrollment found = {sizeof(limpet_enrollment), in.u32(), {}, 0};
      found.note = get_text(in);
      found.enrolled_at = in.i64();
      return as<limpet_enrollment_done>(call.done)(call.arg, error, error != nullptr ? nullptr : &found);
    }
    case Service::keys: {
      const limpet_public_key key = get_key(in);
      return as<limpet_key_found_done>(call.done)(call.arg, error, error != nullptr ? nullptr : &key);
    }
    default:
      return as<limpet_kv_done>(call.done)(call.arg, error, error != nullptr ? limpet_bytes{} : get_bytes(in));
  }
}

// ---- the server's identity ----

void PluginHost::on_identity(const Frame& frame) {
  auto known = std::make_shared<const Bytes>(to_bytes(frame.payload));
  const std::lock_guard lock(mutex_);
  identity_ = std::move(known);
}

limpet_code PluginHost::identity_get(const limpet_host* host, limpet_identity_use use, void* arg) {
  std::shared_ptr<const Bytes> known;
  {
    const std::lock_guard lock(of(host).mutex_);
    known = of(host).identity_;
  }
  if (known == nullptr) return LIMPET_UNAVAILABLE;
  FieldReader in(*known);
  limpet_identity identity = {sizeof(limpet_identity), 0, get_text(in), nullptr, {}};
  const ReadBundle bundle(in);
  const ReadBytes svid(in);
  identity.bundle = &bundle.bundle;
  identity.x509_svid_der = svid.list();
  use(arg, &identity);
  return LIMPET_OK;
}

}  // namespace limpet::shim
