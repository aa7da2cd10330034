// SPDX-License-Identifier: Apache-2.0
// What the plugin may call: the four functions of limpet_host, and the services of the header that the daemon gives to
// its kind.
#include <cstring>

#include "plugin/service_policy.h"
#include "plugin/shim_wire.h"
#include "plugin_check/bench.h"

namespace limpet::check {
namespace {

std::string copy(limpet_str s) { return s.len == 0 ? std::string() : std::string(s.ptr, s.len); }
std::string copy(limpet_bytes b) {
  return b.len == 0 ? std::string() : std::string(reinterpret_cast<const char*>(b.ptr), b.len);
}

HostSide& side(const limpet_host* host) { return *static_cast<HostSide*>(host->ctx); }

limpet_bytes lent(std::string_view b) { return {reinterpret_cast<const uint8_t*>(b.data()), b.size()}; }

limpet_status status_of(limpet_code code, std::string_view text) {
  return {sizeof(limpet_status), code, {text.data(), text.size()}, 0, 0};
}

}  // namespace

struct HostSide::Timed {
  explicit Timed(Loop& loop) : timer(loop) {}
  void fire() {
    const auto keep = owner->timers_.extract(number);
    fn(arg);
  }
  Timer timer;
  HostSide* owner = nullptr;
  uint32_t number = 0;
  void (*fn)(void*) = nullptr;
  void* arg = nullptr;
};

struct HostSide::HttpCall {
  void on_reply(Result<PlainReply> reply) {
    const auto keep = owner->http_calls_.extract(number);
    if (!reply) {
      const limpet_status status = status_of(static_cast<limpet_code>(reply.error().code), reply.error().message);
      return done(arg, &status, nullptr);
    }
    const limpet_http_reply out = {
        sizeof out, static_cast<uint32_t>(reply->status), {reply->body.data(), reply->body.size()}};
    done(arg, nullptr, &out);
  }
  Pending<PlainReply> replied;
  HostSide* owner = nullptr;
  uint32_t number = 0;
  limpet_http_done done = nullptr;
  void* arg = nullptr;
};

struct HostSide::Services {
  // ---- limpet_host ----
  static const void* service(const limpet_host* host, const char* id);
  static void log(const limpet_host* host, int32_t, limpet_str, const limpet_field*, size_t) {
    if (side(host).usable("log")) ++side(host).logged_;
  }
  static void post(const limpet_host* host, void (*fn)(void*), void* arg) {
    HostSide& self = side(host);
    if (!self.usable("post")) return;
    self.bench_.loop.post([&self, fn, arg] {
      if (!self.closed_) fn(arg);
    });
  }
  static int64_t time_left_ms(const limpet_host* host, const limpet_op* raw) {
    if (!side(host).usable("time_left_ms")) return 0;
    const Op& op = *reinterpret_cast<const Op*>(raw);
    if (op.deadline == Clock::time_point::max()) return INT64_MAX;
    return std::chrono::duration_cast<std::chrono::milliseconds>(op.deadline - Clock::now()).count();
  }

  // ---- timers ----
  static uint32_t timer_start(const limpet_host* host, uint32_t ms, void (*fn)(void*), void* arg) {
    HostSide& self = side(host);
    if (!self.usable("a timer")) return 0;
    auto timed = std::make_unique<Timed>(self.bench_.loop);
    timed->owner = &self;
    timed->number = ++self.last_number_;
    timed->fn = fn;
    timed->arg = arg;
    timed->timer.start<&Timed::fire>(ms, timed.get());
    const uint32_t number = timed->number;
    self.timers_.emplace(number, std::move(timed));
    return number;
  }
  static void timer_stop(const limpet_host* host, uint32_t number) { side(host).timers_.erase(number); }

  // ---- poll ----
  static int32_t watch(const limpet_host* host, int32_t fd, uint32_t events, void (*fn)(void*, int32_t, uint32_t),
                       void* arg) {
    HostSide& self = side(host);
    if (!self.usable("a poll")) return LIMPET_FAILED_PRECONDITION;
    return self.watches_.watch(self.bench_.loop, fd, events, fn, arg);
  }
  static void unwatch(const limpet_host* host, int32_t fd) { side(host).watches_.unwatch(fd); }

  // ---- calls that are answered later ----
  static void stop(const limpet_host* host, uint32_t number) {
    side(host).calls_.erase(number);
    side(host).http_calls_.erase(number);
  }
  static bool refuses(HostSide& self) { return !self.usable("a service") || self.offer_ == Offer::refusing; }

  static uint32_t http_start(const limpet_host* host, const limpet_http_call* call, limpet_http_done done, void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    auto http = std::make_unique<HttpCall>();
    http->owner = &self;
    http->number = ++self.last_number_;
    http->done = done;
    http->arg = arg;
    const uint32_t number = http->number;
    self.bench_.http.get({copy(call->url), call->max_body, call->timeout_ms},
                         http->replied.then<&HttpCall::on_reply>(http.get()));
    self.http_calls_.emplace(number, std::move(http));
    return number;
  }
  static uint32_t grpc_start(const limpet_host* host, const limpet_grpc_call*, limpet_grpc_done done, void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    return self.later([done, arg] {
      const limpet_status status = status_of(LIMPET_UNAVAILABLE, "plugin-check has no server to call");
      done(arg, &status, {});
    });
  }
  static uint32_t agent_start(const limpet_host* host, limpet_str, limpet_agent_done done, void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    return self.later([done, arg] {
      const limpet_status status = status_of(LIMPET_NOT_FOUND, "no such agent");
      done(arg, &status, nullptr);
    });
  }
  // Whoever asks is enrolled: so the attestor can be seen to succeed.
  static uint32_t enrollment_start(const limpet_host* host, limpet_str, limpet_enrollment_done done, void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    return self.later([done, arg] {
      const limpet_enrollment found = {sizeof found, 1, {"plugin-check", 12}, 1'700'000'000};
      done(arg, nullptr, &found);
    });
  }
  static uint32_t kv_get(const limpet_host* host, limpet_str key, limpet_kv_done done, void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    return self.later([&self, key = copy(key), done, arg] {
      const auto place = self.kept_.find(key);
      if (place == self.kept_.end()) {
        const limpet_status status = status_of(LIMPET_NOT_FOUND, "no such key");
        return done(arg, &status, {});
      }
      done(arg, nullptr, lent(place->second));
    });
  }
  static uint32_t kv_put(const limpet_host* host, limpet_str key, limpet_bytes value, limpet_kv_done done, void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    return self.later([&self, key = copy(key), value = copy(value), done, arg] {
      self.kept_[key] = value;
      done(arg, nullptr, {});
    });
  }
  static uint32_t kv_remove(const limpet_host* host, limpet_str key, limpet_kv_done done, void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    return self.later([&self, key = copy(key), done, arg] {
      self.kept_.erase(key);
      done(arg, nullptr, {});
    });
  }
  static uint32_t key_find(const limpet_host* host, limpet_str, limpet_key_found_done done, void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    return self.later([done, arg] {
      const limpet_status status = status_of(LIMPET_NOT_FOUND, "plugin-check has no keys");
      done(arg, &status, nullptr);
    });
  }
  static uint32_t key_sign(const limpet_host* host, const limpet_sign_request*, limpet_key_used_done done, void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    return self.later([done, arg] {
      const limpet_status status = status_of(LIMPET_FAILED_PRECONDITION, "find gave no key with this id");
      done(arg, &status, {});
    });
  }
  // Seals with a prefix: what a plugin wrote is what it reads, and nothing else opens.
  static constexpr std::string_view kSealed = "sealed by plugin-check ";
  static uint32_t seal(const limpet_host* host, limpet_bytes plain, limpet_bytes context, limpet_seal_done done,
                       void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    return self.later(
        [blob = std::string(kSealed) + copy(context) + copy(plain), done, arg] { done(arg, nullptr, lent(blob)); });
  }
  static uint32_t unseal(const limpet_host* host, limpet_bytes blob, limpet_bytes context, limpet_seal_done done,
                         void* arg) {
    HostSide& self = side(host);
    if (refuses(self)) return 0;
    return self.later([blob = copy(blob), head = std::string(kSealed) + copy(context), done, arg] {
      const limpet_status status = status_of(LIMPET_FAILED_PRECONDITION, "sealed by another, or with another context");
      if (!blob.starts_with(head)) return done(arg, &status, {});
      done(arg, nullptr, lent(std::string_view(blob).substr(head.size())));
    });
  }
  static limpet_code identity_get(const limpet_host* host, limpet_identity_use, void*) {
    side(host).usable("limpet.identity/1");
    return LIMPET_UNAVAILABLE;  // the server has no bundle yet: a state each plugin must live with
  }
};

const void* HostSide::Services::service(const limpet_host* host, const char* id) {
  static constexpr limpet_timer_service kTimer = {sizeof kTimer, 0, timer_start, timer_stop};
  static constexpr limpet_poll_service kPoll = {sizeof kPoll, 0, watch, unwatch};
  static constexpr limpet_grpc_service kGrpc = {sizeof kGrpc, 0, grpc_start, stop};
  static constexpr limpet_http_service kHttp = {sizeof kHttp, 0, http_start, stop};
  static constexpr limpet_agent_store_service kAgents = {sizeof kAgents, 0, agent_start, stop};
  static constexpr limpet_enrollment_service kEnrollment = {sizeof kEnrollment, 0, enrollment_start, stop};
  static constexpr limpet_kv_service kKv = {sizeof kKv, 0, kv_get, kv_put, kv_remove, stop};
  static constexpr limpet_identity_service kIdentity = {sizeof kIdentity, 0, identity_get};
  static constexpr limpet_keys_service kKeys = {sizeof kKeys, 0, key_find, key_sign, stop};
  static constexpr limpet_seal_service kSeal = {sizeof kSeal, 0, seal, unseal, stop};
  struct Known {
    const char* name;
    const void* table;
    shim::Service service;
  };
  static constexpr Known kGiven[] = {{LIMPET_SERVICE_GRPC, &kGrpc, shim::Service::grpc},
                                     {LIMPET_SERVICE_HTTP, &kHttp, shim::Service::http},
                                     {LIMPET_SERVICE_AGENT_STORE, &kAgents, shim::Service::agent_store},
                                     {LIMPET_SERVICE_ENROLLMENT, &kEnrollment, shim::Service::enrollment},
                                     {LIMPET_SERVICE_KV, &kKv, shim::Service::kv},
                                     {LIMPET_SERVICE_IDENTITY, &kIdentity, shim::Service::identity},
                                     {LIMPET_SERVICE_KEYS, &kKeys, shim::Service::keys},
                                     {LIMPET_SERVICE_SEAL, &kSeal, shim::Service::seal}};
  HostSide& self = side(host);
  if (!self.usable("service")) return nullptr;
  // by which the shim's create() learns whose instance it makes; no plugin's business
  if (id != nullptr && std::strcmp(id, "limpet.internal.component") == 0) return &self.component_;
  if (self.offer_ == Offer::nothing || id == nullptr) return nullptr;
  if (std::strcmp(id, LIMPET_SERVICE_TIMER) == 0) return &kTimer;
  if (std::strcmp(id, LIMPET_SERVICE_POLL) == 0) return &kPoll;
  // as in the daemon's own process; what a shim without a network does not get, its proxy withholds
  const uint32_t allowed = allowed_services(self.component_.interface_id, true);
  for (const Known& known : kGiven) {
    const bool ours = (allowed & static_cast<uint32_t>(known.service)) != 0;
    if (ours && std::strcmp(id, known.name) == 0) return known.table;
  }
  return nullptr;
}

HostSide::HostSide(Bench& bench, Offer offer, const limpet_component& component)
    : bench_(bench), offer_(offer), component_(component) {
  host_ = {sizeof(limpet_host), LIMPET_ABI_MINOR,       this, &Services::service, &Services::log,
           &Services::post,     &Services::time_left_ms};
}

HostSide::~HostSide() = default;

bool HostSide::usable(const char* what) {
  if (!closed_) return true;
  bench_.note(Flaw::after_destroy, std::string(what) + " was used after destroy");
  return false;
}

uint32_t HostSide::later(std::function<void()> answer) {
  const uint32_t number = ++last_number_;
  calls_.emplace(number, std::move(answer));
  bench_.loop.post([this, number] {
    const auto call = calls_.extract(number);
    if (!call.empty() && !closed_) call.mapped()();
  });
  return number;
}

void HostSide::close() {
  closed_ = true;
  timers_.clear();
  calls_.clear();
  http_calls_.clear();
  watches_.clear();
}

}  // namespace limpet::check
