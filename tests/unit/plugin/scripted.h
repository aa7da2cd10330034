// SPDX-License-Identifier: Apache-2.0
#pragma once
// A plugin that does what the test says: it notes every call and keeps the ops, which the test ends when and where it
// likes. One component per set of flags; the calls of all instances end in the one Script that is alive.

#include <gtest/gtest.h>
#include <limpet_plugin.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "loop/fake_loop.h"
#include "plugin/instance.h"
#include "plugin/workload_attestor.h"

namespace limpet::test {

struct Script {
  struct Call {
    limpet_op* op;
    limpet_selectors_done done;
  };
  Script() { alive = this; }
  ~Script() { alive = nullptr; }

  void note(std::string what) {
    const std::lock_guard lock(mutex);
    happened.push_back(std::move(what));
  }
  std::vector<std::string> log() {
    const std::lock_guard lock(mutex);
    return happened;
  }
  std::vector<Call> calls_now() {
    const std::lock_guard lock(mutex);
    return calls;
  }
  // Ends the i-th call with one selector.
  void succeed(size_t i, std::string_view selector = "x:1") {
    const Call call = calls_now().at(i);
    const limpet_str item = {selector.data(), selector.size()};
    call.done(call.op, nullptr, {&item, 1});
  }
  void fail_with(size_t i, limpet_code code, std::string_view message) {
    const Call call = calls_now().at(i);
    const limpet_status status = {sizeof status, code, {message.data(), message.size()}, 0, 0};
    call.done(call.op, &status, {});
  }

  static inline Script* alive = nullptr;
  bool answer_at_once = false;
  bool answer_on_cancel = false;
  std::atomic<bool> lingers{false};  // attest has answered and does not return
  std::atomic<bool> returned{false};
  limpet_code create_code = LIMPET_OK;
  limpet_code configure_code = LIMPET_OK;
  const limpet_host* host = nullptr;
  std::thread::id called_on;
  std::mutex mutex;
  std::vector<std::string> happened;
  std::vector<Call> calls;
};

// ---- the component's functions ----
inline limpet_code script_create(const limpet_host* host, limpet_instance** out) {
  Script::alive->host = host;
  Script::alive->note("create");
  *out = reinterpret_cast<limpet_instance*>(Script::alive);
  return Script::alive->create_code;
}
inline void script_destroy(limpet_instance*) { Script::alive->note("destroy"); }
inline void script_configure(limpet_instance*, limpet_op* op, const limpet_config* config, limpet_done done) {
  Script::alive->note("configure " + std::string(config->json.ptr, config->json.len) + (config->dry_run ? " dry" : ""));
  if (Script::alive->configure_code == LIMPET_OK) return done(op, nullptr);
  const limpet_status status = {sizeof status, Script::alive->configure_code, {"no good", 7}, 0, 0};
  done(op, &status);
}
inline void script_cancel(limpet_instance*, limpet_op* op) {
  Script::alive->note("cancel");
  if (!Script::alive->answer_on_cancel) return;
  const limpet_status status = {sizeof status, LIMPET_CANCELLED, {"stopped", 7}, 0, 0};
  for (const auto& call : Script::alive->calls_now()) {
    if (call.op == op) call.done(op, &status, {});
  }
}
inline void script_attest(limpet_instance*, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
  Script& s = *Script::alive;
  s.note("attest " + std::to_string(w->pid));
  {
    const std::lock_guard lock(s.mutex);
    s.calls.push_back({op, done});
    s.called_on = std::this_thread::get_id();
  }
  const limpet_str item = {"pid", 3};
  if (s.answer_at_once) done(op, nullptr, {&item, 1});
  for (int i = 0; i < 20'000 && s.lingers; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  s.returned = true;
}

inline constexpr limpet_workload_attestor kScriptTable = {sizeof(limpet_workload_attestor), 0, script_attest};
template <uint32_t Flags>
inline constexpr limpet_component kScripted = {sizeof(limpet_component),
                                               Flags,
                                               LIMPET_WORKLOAD_ATTESTOR,
                                               "scripted",
                                               script_create,
                                               script_destroy,
                                               script_configure,
                                               script_cancel,
                                               &kScriptTable};

// A waiter for anything.
template <class T>
struct Waiter {
  Done<T> arm() { return pending.template then<&Waiter::on>(this); }
  void on(Result<T> r) {
    result.emplace(std::move(r));
    ++times;
  }
  Pending<T> pending;
  std::optional<Result<T>> result;
  int times = 0;
};
template <class T>
std::string outcome(const Waiter<T>& waiter) {
  if (!waiter.result) return "waiting";
  return *waiter.result ? "ok" : waiter.result->error().text();
}

// Runs the loop until `ready`, while other threads do their part; gives up after many turns.
template <class Ready>
bool run_until(FakeLoop& loop, Ready ready) {
  for (int turn = 0; turn < 30'000 && !ready(); ++turn) {
    if (loop.run_ready() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return ready();
}

using Selectors = std::vector<std::string>;

// One instance of it, as a workload attestor.
class InstanceTest : public ::testing::Test {
 protected:
  template <uint32_t Flags = 0>
  void open() {
    auto made = Instance::create({loop, Logger::none(), "example.org"}, kScripted<Flags>, "workloadattestor");
    ASSERT_TRUE(made) << made.error().text();
    instance = *made;
    attestor = make_workload_attestor(instance);
  }
  void attest(Waiter<Selectors>& waiter, int pid = 7) { attestor->attest({pid, -1, 0, 0}, waiter.arm()); }

  Script script;
  FakeLoop loop;
  std::shared_ptr<Instance> instance;
  std::unique_ptr<WorkloadAttestor> attestor;
};

}  // namespace limpet::test
