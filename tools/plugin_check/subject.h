// SPDX-License-Identifier: Apache-2.0
#pragma once
// One instance of the component that is checked, called as the real host calls it: plain on the loop, SERIAL one at a
// time, BLOCKING on a thread of its own. Loop thread only.

#include <condition_variable>
#include <list>

#include "plugin_check/bench.h"

namespace limpet::check {

enum class Kind { workload, key_manager, agent, server, sealer, upstream, publisher, unknown };
Kind kind_of(std::string_view interface_id);

struct CallOptions {
  int64_t deadline_ms = 10'000;  // of the op; 0: late already; kUnlimited
  bool sheltered = true;         // see Loan
  static constexpr int64_t kUnlimited = INT64_MAX;
};

class Subject;

// One attestation attempt on either side. Closed by close(), or with the subject.
struct Conversation {
  limpet_session* session = nullptr;  // opened by the first call, where that call runs
};

class Subject {
 public:
  using Call = std::function<void(limpet_instance* self, Op& op)>;

  Subject(Bench& bench, const limpet_component& component, Offer offer = Offer::everything);
  ~Subject();
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  limpet_code create();
  // Cancels what is open, waits for it, closes conversations, destroys. False: calls did not end within 5 s.
  bool destroy();

  Op& configure(const std::string& json, bool dry_run, const std::string& trust_domain, CallOptions options = {});
  Op& start(Answer answer, Call call, CallOptions options = {});
  bool wait(const Op& op, int64_t ms = 20'000);
  void cancel(Op& op);

  Conversation& converse();
  void close(Conversation& conversation);

  template <class Table>
  [[nodiscard]] const Table& table() const {
    return *static_cast<const Table*>(component_.vtable);
  }
  [[nodiscard]] Kind kind() const { return kind_of(component_.interface_id); }
  [[nodiscard]] const limpet_component& component() const { return component_; }
  [[nodiscard]] bool blocking() const { return (component_.flags & LIMPET_BLOCKING) != 0; }
  [[nodiscard]] bool serial() const { return (component_.flags & LIMPET_SERIAL) != 0; }
  [[nodiscard]] HostSide& host() { return host_; }
  [[nodiscard]] Bench& bench() { return bench_; }
  [[nodiscard]] int64_t held_ms(const Op& op) const;
  // BLOCKING: every call on a new thread instead.
  void use_new_threads() { new_threads_ = true; }

 private:
  struct Job {
    Op* op = nullptr;
    Call call;
    std::function<void(limpet_instance*)> chore;  // instead of a call
  };
  void enqueue(Job job);
  void run(Job& job);
  void pump();
  void thread_main();
  void chore(std::function<void(limpet_instance*)> work);  // where calls run; waits for it

  Bench& bench_;
  const limpet_component& component_;
  HostSide& host_;
  limpet_instance* raw_ = nullptr;
  std::list<Conversation> conversations_;
  std::vector<Op*> mine_;
  std::map<const Op*, int64_t> holds_ms_;  // how long the call kept the loop
  Op* current_ = nullptr;                  // SERIAL
  bool new_threads_ = false;

  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
};

}  // namespace limpet::check
