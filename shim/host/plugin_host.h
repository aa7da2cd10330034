// SPDX-License-Identifier: Apache-2.0
#pragma once
// The second host of the ABI: what a plugin is given when it lives in a process of its own. It takes the daemon's calls
// from the link, makes them as the daemon's own Instance would (at once, one at a time, or on a thread of the
// plugin's), and frames the answers. Timers and polls are served here; other services are asked of the daemon. One per
// process, owned by main. Main thread, except where [any] is said.

#include <limpet_plugin.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "link.h"
#include "plugin/shim_codec.h"

namespace limpet::shim {
class PluginHost;
struct ChildSession {
  limpet_session* raw = nullptr;
  size_t ops = 0;
  bool closing = false;
};
}  // namespace limpet::shim

// What a plugin holds as an op here.
struct limpet_op {
  enum class State { waiting, running, finished };
  limpet::shim::PluginHost* host = nullptr;
  uint32_t number = 0;
  limpet::shim::Method method = limpet::shim::Method::configure;
  int64_t deadline_ms = INT64_MAX;
  limpet::Bytes payload;
  int fd = -1;
  uint32_t session = 0;
  std::atomic<State> state{State::waiting};
};

namespace limpet::shim {

class PluginHost {
 public:
  PluginHost(Link& link, uint32_t services);
  ~PluginHost();
  PluginHost(const PluginHost&) = delete;
  PluginHost& operator=(const PluginHost&) = delete;

  limpet_code create(const limpet_component& component);
  // Until the daemon says stop or hangs up. False: there was no orderly end.
  bool run();

  // ---- for the `done` callbacks [any] ----
  void check_answer(limpet_op* op, bool fits);  // ends the process when it is the second, or another call's
  void answer(limpet_op* op, FrameWriter&& frame);
  void update(FrameWriter&& frame);  // one that does not fit is dropped, with a log record

 private:
  // On a duplicate, as in the daemon (core/plugin/instance_host.h): one of the plugin's that it closed too early does
  // not bring it events of another file.
  struct Watch {
    uint64_t serial;  // no other ever has it, unlike the descriptors
    int fd;
    int duplicate;
    uint32_t events;  // 0: it told of an error, and is silent from then on
    void (*fn)(void* arg, int32_t fd, uint32_t events);
    void* arg;
  };
  struct TimerEntry {
    uint32_t id;
    void (*fn)(void* arg);
    void* arg;
  };
  struct ServiceCall {
    Service service = Service::grpc;
    void (*done)() = nullptr;
    void* arg = nullptr;
  };
  struct Job {
    limpet_op* op = nullptr;  // a call, or
    uint32_t session = 0;     // a session to close
  };

  // plugin_host.cc
  void turn();
  void wait();
  bool frames();
  void on_frame(const Frame& frame);
  void on_call(const Frame& frame);
  void on_cancel(uint32_t number);
  void on_session_close(uint32_t number);
  void on_stop();
  void pump();
  void thread_main();
  void finish_session(uint32_t number);  // under mutex_
  void close_raw(uint32_t number);
  void finish_frame(limpet_op* op, FrameWriter&& frame);
  void retire(limpet_op* op, bool ran);  // ran: the plugin was called, and has answered
  void wake();
  [[noreturn]] void misuse(const char* what);
  [[nodiscard]] bool blocking() const { return (component_->flags & LIMPET_BLOCKING) != 0; }
  [[nodiscard]] bool serial() const { return (component_->flags & LIMPET_SERIAL) != 0; }
  [[nodiscard]] bool idle();

  // calls.cc
  void call(limpet_op* op);  // on the thread the component asked for
  limpet_session* session_of(limpet_op* op, FieldReader& in);

  // services.cc
  void on_service_done(const Frame& frame);
  void on_identity(const Frame& frame);
  static const void* service(const limpet_host* host, const char* id);
  static void log(const limpet_host* host, int32_t level, limpet_str message, const limpet_field* fields, size_t count);
  static void post(const limpet_host* host, void (*fn)(void*), void* arg);
  static int64_t time_left(const limpet_host* host, const limpet_op* op);
  static uint32_t timer_start(const limpet_host* host, uint32_t ms, void (*fn)(void*), void* arg);
  static void timer_stop(const limpet_host* host, uint32_t id);
  static int32_t watch(const limpet_host* host, int32_t fd, uint32_t events, void (*fn)(void*, int32_t, uint32_t),
                       void* arg);
  static void unwatch(const limpet_host* host, int32_t fd);
  static uint32_t grpc_start(const limpet_host* host, const limpet_grpc_call* call, limpet_grpc_done done, void* arg);
  static uint32_t http_start(const limpet_host* host, const limpet_http_call* call, limpet_http_done done, void* arg);
  static uint32_t agent_start(const limpet_host* host, limpet_str id, limpet_agent_done done, void* arg);
  static uint32_t enrollment_start(const limpet_host* host, limpet_str id, limpet_enrollment_done done, void* arg);
  template <KvAction A>
  static uint32_t kv_start(const limpet_host* host, limpet_str key, limpet_kv_done done, void* arg);
  static uint32_t kv_put(const limpet_host* host, limpet_str key, limpet_bytes value, limpet_kv_done done, void* arg);
  static uint32_t keys_find(const limpet_host* host, limpet_str id, limpet_key_found_done done, void* arg);
  static uint32_t keys_sign(const limpet_host* host, const limpet_sign_request* request, limpet_key_used_done done,
                            void* arg);
  template <SealAction A>
  static uint32_t seal_start(const limpet_host* host, limpet_bytes data, limpet_bytes context, limpet_seal_done done,
                             void* arg);
  static void call_stop(const limpet_host* host, uint32_t id);
  static limpet_code identity_get(const limpet_host* host, limpet_identity_use use, void* arg);
  // The number of a new call and the start of its frame; number 0: too many.
  uint32_t begin_call();
  uint32_t send_call(uint32_t number, Service service, FrameWriter&& frame, void (*done)(), void* arg);

  Link& link_;
  const uint32_t services_;
  limpet_host host_ = {};
  const limpet_component* component_ = nullptr;
  limpet_instance* self_ = nullptr;
  int wake_fd_ = -1;
  bool hung_up_ = false;
  bool stopping_ = false;
  bool serial_busy_ = false;

  std::mutex mutex_;  // guards down to identity_
  std::unordered_map<uint32_t, std::unique_ptr<limpet_op>> live_;
  std::deque<std::unique_ptr<limpet_op>> spent_;  // answered ops, kept to recognise a second answer
  std::deque<Job> jobs_;
  std::unordered_map<uint32_t, ChildSession> sessions_;
  std::vector<std::pair<void (*)(void*), void*>> posted_;
  std::vector<uint32_t> to_close_;  // sessions, at the next turn
  bool quit_ = false;
  bool serial_done_ = false;
  std::condition_variable job_;
  std::shared_ptr<const Bytes> identity_;
  std::thread thread_;

  std::vector<Watch> watches_;
  uint64_t last_watch_ = 0;
  std::multimap<int64_t, TimerEntry> timers_;
  uint32_t last_timer_ = 0;
  std::map<uint32_t, ServiceCall> calls_;
  uint32_t last_call_ = 0;
};

int64_t monotonic_ms();

}  // namespace limpet::shim
