// SPDX-License-Identifier: Apache-2.0
#pragma once
// One instance of a shimmed component: the daemon's half of a plugin that lives in a child process. It puts each call
// in a frame, keeps the operation until the child's answer, and keeps the child alive: pings, kills one that hangs,
// floods or babbles, starts another one after a pause that doubles, and says in health when it dies too often. Whatever
// the child does, an operation ends once. Made and destroyed by the component's create and destroy. Loop thread only.
//
// What happens to an operation when the child dies: one that only reads (list, sign, attest, an agent's payload) is put
// to the next child, once; others end with UNAVAILABLE. A session dies with its child.

#include <deque>
#include <map>
#include <optional>

#include "plugin/shim_child.h"
#include "plugin/shim_codec.h"
#include "plugin/shim_component.h"

namespace limpet::shim {

inline constexpr uint32_t kHelloDescribe = 1, kHelloNetwork = 2, kHelloRequire = 4, kHelloSandbox = 8;
inline constexpr uint32_t kKeepId = UINT32_MAX;  // no other user or group

class Proxy;

// One attestation attempt; the number names it to the child of that generation.
struct ProxySession {
  Proxy* owner = nullptr;
  uint32_t number = 0;
  uint64_t generation = 0;                            // 0: no child knows it yet
  std::string peer_ip, forwarded_host, trust_domain;  // of an attempt at a server
};

struct ProxyOp {
  limpet_op* op = nullptr;  // null: our own configure of a new child
  Method method = Method::configure;
  void (*done)() = nullptr;  // of the type that goes with the method
  limpet_bundle_update update = nullptr;
  ProxySession* session = nullptr;
  Bytes frame;  // empty once sent, unless it may be repeated
  int fd = -1;  // a pidfd that goes along
  bool sent = false;
  bool repeated = false;
};

class Proxy final : private ShimChild::Listener {
 public:
  Proxy(const limpet_host* host, const Component& component);
  ~Proxy() override;
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  static Proxy& of(limpet_instance* self) { return *reinterpret_cast<Proxy*>(self); }

  // A call's frame: its number and a place for the time left, which send() fills in. Then the caller adds the fields.
  FrameWriter begin(Method method);
  void call(FrameWriter&& frame, ProxyOp op);
  void cancel(limpet_op* op);
  void configure(limpet_op* op, const limpet_config* config, limpet_done done);
  limpet_session* open_session();
  void close_session(ProxySession* session);

  // For tests and health: how often the child died, and its process.
  [[nodiscard]] uint64_t deaths() const { return deaths_total_; }
  [[nodiscard]] pid_t pid() const { return child_ == nullptr ? -1 : child_->pid(); }

 private:
  enum class Phase { idle, starting, configuring, up, resting };

  void on_frame(const Frame& frame) override;
  void on_end(std::string why) override;

  void start_child();
  void on_greeting(const Frame& frame);
  void on_ready_frame(const Frame& frame);
  void on_done_frame(const Frame& frame);
  void on_update_frame(const Frame& frame);
  void on_log_frame(const Frame& frame);
  void on_service_call(const Frame& frame);  // shim_services.cc, with the next three
  void on_service_stop(uint32_t number);
  void stop_services();
  void tell_identity();
  uint32_t offered_services();     // to the next child: remembered, and it is held to it
  bool unsolicited(size_t bytes);  // false: it floods, and was killed for it
  void new_window();
  void violation(const std::string& what);

  void come_up();
  void send(uint32_t number, ProxyOp& op);
  void end(ProxyOp& op, limpet_code code, const std::string& why);
  void after_death(const std::string& why);
  void rest();
  void on_rested();
  void on_late_start();
  void on_tick();
  void on_grace();
  [[nodiscard]] std::string replaced_device() const;  // "": each is the one that its process started with
  void tell_health();
  void log(int32_t level, std::string_view message, std::initializer_list<limpet_field> fields);
  [[nodiscard]] int64_t now() const { return component_.loop().now_ms(); }

  // A service that the child asked for. finish() destroys it.
  struct ServiceCall {
    Proxy& owner;
    uint32_t number;       // the child's
    uint32_t host_id = 0;  // the host's; 0: not started
    void (*stop)(const limpet_host* host, uint32_t id) = nullptr;

    // The call is over: its error, or what `fields` writes. Destroys the call.
    template <class Fields>
    void end(const limpet_status* error, Fields fields) {
      FrameWriter frame(Method::service_done, number);
      if (error != nullptr) {
        put_status(frame, *error);
      } else {
        put_success(frame);
        fields(frame);
      }
      finish(std::move(frame));
    }
    void finish(FrameWriter&& frame);
  };
  const limpet_host& host_;
  const Component& component_;
  const Settings& settings_;
  Phase phase_ = Phase::idle;
  std::unique_ptr<ShimChild> child_;
  uint64_t generation_ = 0;
  uint32_t last_number_ = 0;
  std::map<uint32_t, ProxyOp> ops_;
  std::map<uint32_t, int64_t> cancelled_;  // the child has not ended them yet; when that is too late
  Bytes config_;                           // the frame of the configuration in force, for the next child
  bool configured_ = false;
  Bytes wanted_config_;  // of the configure in flight
  uint32_t wanted_number_ = 0;
  uint32_t last_session_ = 0;

  std::deque<int64_t> deaths_;  // in the last ten minutes
  uint64_t deaths_total_ = 0;
  int64_t pause_ms_ = 0;
  int64_t up_since_ = 0;
  std::string last_death_;
  limpet_code refusal_ = LIMPET_UNAVAILABLE;  // what a first start that fails answers; no later one
  std::vector<std::pair<std::string, std::pair<dev_t, ino_t>>> devices_;  // by path, as they were at its start
  bool told_degraded_ = false;
  bool told_missing_ = false;
  Timer rest_timer_;
  Timer tick_timer_;
  Timer start_timer_;  // until the child is up
  Timer grace_timer_;
  int64_t pinged_at_ = 0;  // 0: no ping is unanswered

  int64_t window_start_ = 0;  // of the counts below
  size_t window_cost_ = 0;
  size_t window_logs_ = 0;
  size_t dropped_logs_ = 0;

  uint64_t greeted_ = 0;  // the generation of the child that greeted: its plugin speaks from then on
  uint32_t offered_ = 0;  // bits of Service
  std::map<uint32_t, std::unique_ptr<ServiceCall>> services_;
  Bytes identity_;  // as last told
};

// shim_tables.cc. Reads the answer and hands it to the op's done; false: it makes no sense, and done was not called.
bool give_answer(const ProxyOp& op, FieldReader& in);
void give_error(const ProxyOp& op, const limpet_status& status);
bool give_update(const ProxyOp& op, FieldReader& in);

}  // namespace limpet::shim
