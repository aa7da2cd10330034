// SPDX-License-Identifier: Apache-2.0
// How an instance ends: in order, by force of time, and from within.
#include <gtest/gtest.h>

#include <atomic>

#include "base/limits.h"
#include "plugin/instance.h"
#include "plugin/node_attestor.h"
#include "scripted.h"

namespace limpet {
namespace {

using namespace test;

TEST_F(InstanceTest, ClosingCancelsWaitsForTheAnswersAndDestroysLast) {
  open();
  script.answer_on_cancel = true;
  Waiter<Selectors> waiter;
  attest(waiter);
  attestor.reset();
  EXPECT_EQ(outcome(waiter), "Unavailable: workloadattestor(scripted): the plugin is being stopped");
  EXPECT_EQ(script.log(), (Selectors{"create", "attest 7", "cancel", "destroy"}));
  loop.run_ready();  // what was posted before finds nobody
  EXPECT_EQ(waiter.times, 1);
}

TEST_F(InstanceTest, ClosingWaitsForAnAnswerFromThePluginsOwnThread) {
  open();
  Waiter<Selectors> waiter;
  attest(waiter);
  std::atomic<bool> closing = false;
  std::thread plugin([&] {
    while (!closing) std::this_thread::yield();
    script.note("answer");
    script.succeed(0);
  });
  closing = true;
  attestor.reset();
  plugin.join();
  EXPECT_EQ(script.log().back(), "destroy");
}

TEST_F(InstanceTest, ClosingABlockingPluginDropsWhatItDidNotStart) {
  open<LIMPET_BLOCKING>();
  script.answer_at_once = true;
  std::vector<std::unique_ptr<Waiter<Selectors>>> waiters;
  for (int i = 0; i < 50; ++i) {
    waiters.push_back(std::make_unique<Waiter<Selectors>>());
    attest(*waiters.back());
  }
  attestor.reset();
  for (const auto& waiter : waiters) EXPECT_EQ(waiter->times, 1);
  EXPECT_EQ(script.log().back(), "destroy");
}

TEST_F(InstanceTest, APluginThatDoesNotLetGoIsAbandonedAndItsLateAnswerIsHarmless) {
  open();
  Waiter<Selectors> waiter;
  attest(waiter);
  attestor.reset();  // waits for limits::kPluginStopMs
  EXPECT_EQ(outcome(waiter), "Unavailable: workloadattestor(scripted): the plugin is being stopped");
  EXPECT_EQ(script.log().back(), "cancel");  // never destroyed
  std::thread([this] { script.succeed(0); }).join();
  script.host->post(script.host, [](void*) { FAIL(); }, nullptr);
  script.host->log(script.host, LIMPET_LOG_ERROR, {"late", 4}, nullptr, 0);
  loop.run_ready();
  static const limpet_host* abandoned;  // what is kept for the plugin's sake is no leak
  abandoned = script.host;
  EXPECT_NE(abandoned, nullptr);
}

TEST_F(InstanceTest, ABlockingPluginThatLingersAfterItsAnswerIsAbandonedToo) {
  script.answer_at_once = true;
  script.lingers = true;
  open<LIMPET_BLOCKING>();
  Waiter<Selectors> waiter;
  attest(waiter);
  ASSERT_TRUE(run_until(loop, [&] { return waiter.result.has_value(); }));
  attestor.reset();  // waits for limits::kPluginStopMs
  EXPECT_FALSE(script.returned);
  EXPECT_EQ(script.log().back(), "attest 7");  // never destroyed
  script.lingers = false;
  EXPECT_TRUE(run_until(loop, [&] { return script.returned.load(); }));
  static const limpet_host* abandoned;  // as above
  abandoned = script.host;
  EXPECT_NE(abandoned, nullptr);
}

// ---- sessions, where the second to be closed holds up the end ----
struct StuckSessions {
  static inline std::atomic<bool> answers{true}, waits{false}, stuck{true}, left{false};
  static inline std::atomic<int> closed{0};
  static limpet_session* open(limpet_instance*) { return reinterpret_cast<limpet_session*>(new char); }
  static void payload(limpet_session*, limpet_op* op, limpet_bytes_done done) {
    waits = !answers;
    while (!answers) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    done(op, nullptr, {});
  }
  static void answer(limpet_session*, limpet_op* op, limpet_bytes, limpet_bytes_done done) { done(op, nullptr, {}); }
  static void close(limpet_session* session) {
    delete reinterpret_cast<char*>(session);
    if (++closed < 2) return;
    for (int i = 0; i < 20'000 && stuck; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    left = true;
  }
  static void cancel(limpet_instance*, limpet_op*) { answers = true; }
  static constexpr limpet_node_attestor_agent kTable = {
      sizeof(limpet_node_attestor_agent), 0, open, payload, answer, close};
  static constexpr limpet_component kComponent = {sizeof(limpet_component),
                                                  LIMPET_BLOCKING,
                                                  LIMPET_NODE_ATTESTOR_AGENT,
                                                  "scripted",
                                                  script_create,
                                                  script_destroy,
                                                  script_configure,
                                                  cancel,
                                                  &kTable};
};

TEST_F(InstanceTest, AnAnswerThatIsOnItsWayWhenThePluginIsAbandonedReachesNoSession) {
  auto made = Instance::create({loop, Logger::none(), "example.org"}, StuckSessions::kComponent, "nodeattestor");
  ASSERT_TRUE(made) << made.error().text();
  auto agent = make_node_attestor_agent(*made);
  auto first = agent->open();
  auto second = agent->open();
  Waiter<Bytes> ready, in_flight;
  second->payload(ready.arm());
  ASSERT_TRUE(run_until(loop, [&] { return ready.result.has_value(); }));
  StuckSessions::answers = false;
  first->payload(in_flight.arm());
  ASSERT_TRUE(run_until(loop, [&] { return StuckSessions::waits.load(); }));
  agent.reset();  // the first session is closed by then, and its answer waits in the loop
  EXPECT_EQ(outcome(in_flight), "Unavailable: nodeattestor(scripted): the plugin is being stopped");
  first.reset();
  loop.run_ready();
  EXPECT_EQ(in_flight.times, 1);
  StuckSessions::stuck = false;
  EXPECT_TRUE(run_until(loop, [&] { return StuckSessions::left.load(); }));
  static const limpet_host* abandoned;  // as above
  abandoned = script.host;
  EXPECT_NE(abandoned, nullptr);
}

TEST_F(InstanceTest, AWaiterMayCloseThePluginFromItsAnswer) {
  struct Closer {
    void on(Result<Selectors>) { victim->reset(); }
    std::unique_ptr<WorkloadAttestor>* victim;
    Pending<Selectors> pending = {};
  } closer{&attestor};
  script.answer_at_once = true;
  open();
  instance.reset();
  attestor->attest({1, -1, 0, 0}, closer.pending.then<&Closer::on>(&closer));
  loop.run_ready();
  EXPECT_EQ(script.log().back(), "destroy");
}

TEST_F(InstanceTest, AWaiterMayCloseThePluginFromItsDeadline) {
  struct Closer {
    void on(Result<Selectors>) { victim->reset(); }
    std::unique_ptr<WorkloadAttestor>* victim;
    Pending<Selectors> pending = {};
  } closer{&attestor};
  script.answer_on_cancel = true;
  open();
  instance.reset();
  attestor->attest({1, -1, 0, 0}, closer.pending.then<&Closer::on>(&closer));
  loop.advance(limits::kWorkloadAttestMs);
  EXPECT_EQ(script.log(), (Selectors{"create", "attest 1", "cancel", "destroy"}));
}

}  // namespace
}  // namespace limpet
