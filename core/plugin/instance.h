// SPDX-License-Identifier: Apache-2.0
#pragma once
// One live instance of a plugin's component: the host struct it was given, its calls in flight, its queue and, when it
// declared itself BLOCKING, its thread. A facade owns it and closes it; sessions and blocking signers keep it too
// (hence shared_ptr) but find it closed. Loop thread, except where [any] is said.
//
// How a call runs: plain: at once, on the loop. SERIAL: on the loop, one at a time. BLOCKING: on the instance's own
// thread, one at a time, so a worker may wait for it even while the loop is busy. The answer always reaches its waiter
// through the loop (a worker's through a condition variable). A late answer: the waiter gets DEADLINE_EXCEEDED, the
// plugin a cancel, and the op lives until its `done` comes.

#include <limpet_plugin.h>

#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "plugin/grpc_caller.h"
#include "plugin/http_caller.h"
#include "plugin/op.h"
#include "plugin/plugin_keys.h"
#include "plugin/poll_watches.h"
#include "plugin/private_state.h"
#include "plugin/sealer.h"
#include "plugin/server_facts.h"
#include "report/log.h"

namespace limpet {

// What does the work of a host service. Null: this host lacks it, as when a configuration is only validated. Everything
// outlives the instances.
struct HostServices {
  GrpcCaller* grpc = nullptr;               // limpet.grpc/1
  HttpCaller* http = nullptr;               // limpet.http/1
  AgentLookup* agents = nullptr;            // limpet.agent-store/1
  const IdentityBoard* identity = nullptr;  // limpet.identity/1
  DeviceLookup* devices = nullptr;          // limpet.enrollment/1
  PluginKeys* keys = nullptr;               // limpet.keys/1, set by the catalog
  Sealer* sealer = nullptr;                 // limpet.seal/1, set by the catalog
  PrivateState* state = nullptr;            // limpet.kv/1
  UvLoop* poll = nullptr;                   // limpet.poll/1: the loop of the context itself
};

// What every instance is given by main.
struct PluginContext {
  Loop& loop;
  Logger& logger;
  std::string trust_domain;
  HostServices services = {};
};

// One attestation attempt in a plugin. Opened by its first call, closed when its owner is gone and no call is in
// flight.
struct Session {
  limpet_session* raw = nullptr;
  void (*close)(limpet_session*) = nullptr;
  size_t ops = 0;
  bool dropped = false;
};

class Instance {
 public:
  // `kind` is the prefix of errors without the name: "keymanager".
  static Result<std::shared_ptr<Instance>> create(const PluginContext& context, const limpet_component& component,
                                                  std::string_view kind);
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& label() const { return label_; }  // "keymanager(disk)"
  [[nodiscard]] const std::string& trust_domain() const { return trust_domain_; }
  [[nodiscard]] bool deferred() const { return blocking() || serial(); }  // a call may start after run() returned
  template <class Table>
  [[nodiscard]] const Table* table() const {
    return static_cast<const Table*>(component_.vtable);
  }

  void configure(const std::string& json, bool dry_run, Done<void> done);
  // Starts a call; it answers within `ms` one way or another.
  template <class T>
  void run(PluginCall call, int64_t ms, Done<T> done, Session* session = nullptr) {
    start(std::make_unique<LoopOp<T>>(std::move(call), std::move(done)), ms, session);
  }
  // `ms` kForever: without a deadline; such an op ends by itself, by cancel() or with the instance.
  static constexpr int64_t kForever = INT64_MAX;
  void start(std::unique_ptr<limpet_op> op, int64_t ms, Session* session = nullptr);
  // Nobody waits for it any more: forgotten where it has not started, else the plugin is asked to end it.
  void cancel(limpet_op& op);
  // [any] Runs `task` on the loop, unless the instance is closed before.
  void post(std::move_only_function<void()> task);
  // The same from a worker thread, which waits. [any but the loop and the plugin's own thread]
  template <class T>
  Result<T> run_and_wait(PluginCall call, int64_t ms);

  Session* add_session(void (*close_session)(limpet_session*));
  void drop_session(Session* session);

  // Cancels what is in flight, waits a bounded time for it, closes sessions, destroys the plugin's instance. A plugin
  // that does not let go in time is abandoned: it keeps its memory, its answers go nowhere.
  void close();

 private:
  friend struct ::limpet_op;
  struct Job {
    limpet_op* op = nullptr;                // a call, or
    std::unique_ptr<Session> session = {};  // a session to close
  };
  struct HostTimer;
  struct HostCall;
  template <class T>
  struct CallOf;
  template <class T>
  using CallDone = std::move_only_function<void(const limpet_status* error, const T* reply)>;

  Instance(const PluginContext& context, const limpet_component& component, std::string_view kind);
  [[nodiscard]] bool blocking() const { return (component_.flags & LIMPET_BLOCKING) != 0; }
  [[nodiscard]] bool serial() const { return (component_.flags & LIMPET_SERIAL) != 0; }
  void start_from_worker(std::unique_ptr<limpet_op> op, int64_t ms);
  void arm(limpet_op& op, int64_t ms);                 // starts its timer
  Result<void> admit(std::unique_ptr<limpet_op>& op);  // under mutex_
  void fail_later(std::unique_ptr<limpet_op> op, Error error);
  void call_now(limpet_op& op);  // loop thread, op is running
  void pump();                   // SERIAL: the next call
  void thread_main();
  void op_answered(limpet_op* op);  // [any]
  void op_late(limpet_op& op);
  std::unique_ptr<limpet_op> take_waiting(limpet_op& op);  // null: it runs already
  void complete(limpet_op* op);
  void finish_session(Session* session);
  void release();
  void abandon();
  [[noreturn]] void misuse(std::string_view what);

  static const void* host_service(const limpet_host* host, const char* id);
  static void host_log(const limpet_host* host, int32_t level, limpet_str message, const limpet_field* fields,
                       size_t count);
  static void host_post(const limpet_host* host, void (*fn)(void*), void* arg);
  static int64_t host_time_left(const limpet_host* host, const limpet_op* op);
  static uint32_t timer_start(const limpet_host* host, uint32_t ms, void (*fn)(void*), void* arg);
  static void timer_stop(const limpet_host* host, uint32_t id);
  static uint32_t grpc_start(const limpet_host* host, const limpet_grpc_call* call, limpet_grpc_done done, void* arg);
  static uint32_t http_start(const limpet_host* host, const limpet_http_call* call, limpet_http_done done, void* arg);
  static uint32_t agent_start(const limpet_host* host, limpet_str id, limpet_agent_done done, void* arg);
  static uint32_t enrollment_start(const limpet_host* host, limpet_str identifier, limpet_enrollment_done done,
                                   void* arg);
  static uint32_t keys_find(const limpet_host* host, limpet_str id, limpet_key_found_done done, void* arg);
  static uint32_t keys_sign(const limpet_host* host, const limpet_sign_request* request, limpet_key_used_done done,
                            void* arg);
  static uint32_t seal_start(const limpet_host* host, limpet_bytes plain, limpet_bytes context, limpet_seal_done done,
                             void* arg);
  static uint32_t unseal_start(const limpet_host* host, limpet_bytes blob, limpet_bytes context, limpet_seal_done done,
                               void* arg);
  [[nodiscard]] std::optional<Bytes> seal_context(limpet_bytes context) const;
  static limpet_code identity_get(const limpet_host* host, limpet_identity_use use, void* arg);
  static int32_t poll_watch(const limpet_host* host, int32_t fd, uint32_t events, PollWatches::Fn fn, void* arg);
  static void poll_unwatch(const limpet_host* host, int32_t fd);
  static uint32_t kv_get(const limpet_host* host, limpet_str key, limpet_kv_done done, void* arg);
  static uint32_t kv_put(const limpet_host* host, limpet_str key, limpet_bytes value, limpet_kv_done done, void* arg);
  static uint32_t kv_remove(const limpet_host* host, limpet_str key, limpet_kv_done done, void* arg);
  static void call_stop(const limpet_host* host, uint32_t id);
  [[nodiscard]] const void* call_service(const char* id) const;
  template <class T>
  CallOf<T>* begin_call(CallDone<T> tell);  // null: too many in flight
  template <class Start>
  uint32_t begin_kv(limpet_str key, size_t value_bytes, limpet_kv_done done, void* arg, Start start);

  const limpet_component& component_;
  const std::string name_;
  const std::string label_;
  const std::string trust_domain_;
  Logger& logger_;
  Loop& timers_loop_;
  const HostServices services_;
  limpet_host host_ = {};
  limpet_instance* raw_ = nullptr;
  std::weak_ptr<Instance> self_;         // posted tasks find out whether we are still there
  std::shared_ptr<Instance> abandoned_;  // ourselves, when the plugin did not let go: never freed, on purpose

  std::mutex mutex_;  // guards down to thread_busy_
  Loop* loop_;        // nullptr once closed
  std::unordered_map<limpet_op*, std::unique_ptr<limpet_op>> live_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  bool mute_ = false;             // abandoned: the logger may be gone
  size_t running_ = 0;            // calls the plugin has not answered
  bool thread_busy_ = false;      // thread_ is in the plugin's code: a call may take its time after its answer
  std::condition_variable wake_;  // the thread: a job, or the end
  std::condition_variable idle_;  // close(): the plugin has no call, and no thread of ours

  std::thread thread_;
  bool open_ = true;  // close() was not called
  bool serial_busy_ = false;
  std::deque<std::unique_ptr<limpet_op>> spent_;  // answered ops, kept to recognise a second answer
  std::list<std::unique_ptr<Session>> sessions_;
  std::map<uint32_t, std::unique_ptr<HostTimer>> timers_;
  uint32_t last_timer_ = 0;
  PollWatches watches_;
  std::map<uint32_t, std::unique_ptr<HostCall>> calls_;
  uint32_t last_call_ = 0;
};

template <class T>
Result<T> Instance::run_and_wait(PluginCall call, int64_t ms) {
  auto state = std::make_shared<SyncState<T>>();
  start_from_worker(std::make_unique<SyncOp<T>>(std::move(call), state), ms);
  std::unique_lock lock(state->mutex);
  if (!state->ready.wait_for(lock, std::chrono::milliseconds(ms), [&] { return state->result.has_value(); })) {
    return fail(Code::deadline_exceeded, label_ + ": no answer within " + std::to_string(ms / 1000) + " s");
  }
  return std::move(*state->result);
}

}  // namespace limpet
