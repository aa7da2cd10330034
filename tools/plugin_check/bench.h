// SPDX-License-Identifier: Apache-2.0
#pragma once
// The host that plugin-check plays for one plugin: a loop, the services, and ops that remember everything that was done
// to them. It forgives what the real host would abort on, and notes it as a flaw, so that the test whose business it is
// can say so and the others go on. Loop thread, except where [any] is said.

#include <limpet_plugin.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "loop/uv_loop.h"
#include "plugin/http_caller.h"
#include "plugin/poll_watches.h"

namespace limpet::check {

using Clock = std::chrono::steady_clock;

// The memory of one call's arguments. Sheltered: it lives until the op has been answered. Not sheltered: it is taken
// away when the plugin's function returns, so that whoever kept a pointer crashes.
class Loan {
 public:
  explicit Loan(bool sheltered) : sheltered_(sheltered) {}
  ~Loan();
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;

  limpet_str text(std::string_view content);
  limpet_bytes bytes(std::string_view content);
  template <class T>
  T* value(const T& content) {
    return static_cast<T*>(copy(&content, sizeof content));
  }
  void call_returned();

 private:
  struct Piece {
    void* address;
    size_t size;
  };
  void* copy(const void* from, size_t size);
  const bool sheltered_;
  std::vector<Piece> pieces_;
};

enum class Answer { plain, bytes, selectors, key, keys, signature, step, minted };

struct Key {
  std::string id;
  uint32_t type = 0;
  std::string spki;
  std::string fingerprint;
};

class HostSide;

// One request in flight. Never freed while its plugin may still reach for it.
struct Op {
  Op(HostSide& owner, Answer answer_kind, bool sheltered) : host(owner), kind(answer_kind), loan(sheltered) {}

  HostSide& host;
  const Answer kind;
  Loan loan;
  Clock::time_point deadline = Clock::time_point::max();
  std::atomic<int> dones{0};       // [any]
  std::atomic<bool> ready{false};  // [any] the members below may be read
  std::atomic<bool> returned{false};
  bool answered_inside = false;  // before the function returned

  int code = LIMPET_OK;
  std::string message;
  std::string bytes;  // also a signature, a challenge
  std::string fingerprint;
  std::vector<std::string> selectors;
  std::vector<Key> keys;
  bool attested = false;
  std::string agent_path;
  std::vector<std::string> chain;
  std::vector<std::string> roots;
  std::atomic<int> updates{0};
  std::atomic<int> empty_updates{0};

  [[nodiscard]] limpet_op* raw() { return reinterpret_cast<limpet_op*>(this); }
  [[nodiscard]] bool ok() const { return ready && code == LIMPET_OK; }
  [[nodiscard]] std::string outcome() const;  // "ok", "NotFound: ...", "no answer"
};

// What the plugin did that limpet_plugin.h forbids.
enum class Flaw {
  done_twice,
  wrong_done,     // another call's
  after_destroy,  // anything of the host's
  bad_status,     // size, code, text
  bad_result,     // a text that is not UTF-8, a NULL with a length, beyond the host's bounds
  late_return,    // BLOCKING: returned without having called done
};

enum class Offer { everything, nothing, refusing };  // services; refusing: each start answers 0

// Everything one test process has. Outlives its hosts.
class Bench {
 public:
  Bench();
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  UvLoop loop;
  WireHttpCaller http{loop};

  void note(Flaw flaw, std::string what);      // [any]
  [[nodiscard]] std::string first(Flaw flaw);  // empty: none
  [[nodiscard]] std::string first_of(std::vector<Flaw> of);
  HostSide& new_host(Offer offer, const limpet_component& component);
  Op& new_op(HostSide& host, Answer kind, bool sheltered);
  void forget();  // all ops and hosts: only when no plugin can reach them
  // Runs the loop until `ready`; false: it was not within `ms`.
  bool run_until(const std::function<bool()>& ready, int64_t ms);
  void run_for(int64_t ms);
  [[nodiscard]] bool on_loop() const { return std::this_thread::get_id() == loop_thread_; }

 private:
  const std::thread::id loop_thread_ = std::this_thread::get_id();
  std::mutex mutex_;
  std::map<Flaw, std::string> flaws_;
  std::deque<std::unique_ptr<HostSide>> hosts_;
  std::deque<std::unique_ptr<Op>> ops_;
};

// The limpet_host of one instance. Kept as long as the bench: a plugin may hold it wrongly.
class HostSide {
 public:
  HostSide(Bench& bench, Offer offer, const limpet_component& component);
  ~HostSide();
  HostSide(const HostSide&) = delete;
  HostSide& operator=(const HostSide&) = delete;

  [[nodiscard]] const limpet_host* raw() const { return &host_; }
  [[nodiscard]] Bench& bench() { return bench_; }
  void close();  // the instance is being destroyed: from now on it is a flaw to come here
  [[nodiscard]] bool closed() const { return closed_; }
  [[nodiscard]] size_t logged() const { return logged_; }

 private:
  struct Services;
  friend struct Services;
  struct Timed;
  struct HttpCall;
  bool usable(const char* what);
  uint32_t later(std::function<void()> answer);  // a call number

  Bench& bench_;
  const Offer offer_;
  const limpet_component& component_;
  limpet_host host_ = {};
  std::atomic<bool> closed_{false};
  std::atomic<size_t> logged_{0};
  uint32_t last_number_ = 0;
  std::map<uint32_t, std::unique_ptr<Timed>> timers_;
  std::map<uint32_t, std::function<void()>> calls_;
  std::map<uint32_t, std::unique_ptr<HttpCall>> http_calls_;
  PollWatches watches_;
  std::map<std::string, std::string> kept_;  // limpet.kv/1
};

// The `done` of each call, and the update of a watch. [any]
void done_plain(limpet_op* op, const limpet_status* err);
void done_bytes(limpet_op* op, const limpet_status* err, limpet_bytes bytes);
void done_selectors(limpet_op* op, const limpet_status* err, limpet_str_list selectors);
void done_key(limpet_op* op, const limpet_status* err, const limpet_public_key* key);
void done_keys(limpet_op* op, const limpet_status* err, const limpet_public_key* const* keys, size_t count);
void done_signature(limpet_op* op, const limpet_status* err, limpet_bytes signature, limpet_str fingerprint);
void done_step(limpet_op* op, const limpet_status* err, const limpet_attest_step* step);
void done_minted(limpet_op* op, const limpet_status* err, limpet_bytes_list chain, limpet_bytes_list roots);
void on_update(limpet_op* op, const limpet_bundle* bundle);

}  // namespace limpet::check
