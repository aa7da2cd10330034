// SPDX-License-Identifier: Apache-2.0
#include "plugin/instance.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>

#include "base/limits.h"
#include "scripted.h"

namespace limpet {
namespace {

using namespace test;
TEST_F(InstanceTest, AnAnswerInsideTheCallReachesTheWaiterOnlyAfterTheCallerReturned) {
  script.answer_at_once = true;
  open();
  Waiter<Selectors> waiter;
  attest(waiter);
  EXPECT_EQ(outcome(waiter), "waiting");
  loop.run_ready();
  ASSERT_EQ(outcome(waiter), "ok");
  EXPECT_EQ(**waiter.result, Selectors{"pid"});
}

TEST_F(InstanceTest, AnAnswerFromAnotherThreadReachesTheWaiterOnTheLoop) {
  open();
  Waiter<Selectors> waiter;
  attest(waiter);
  std::thread([this] { script.succeed(0, "a:b"); }).join();
  EXPECT_EQ(outcome(waiter), "waiting");
  loop.run_ready();
  ASSERT_EQ(outcome(waiter), "ok");
  EXPECT_EQ(**waiter.result, Selectors{"a:b"});
  EXPECT_EQ(waiter.times, 1);
}

TEST_F(InstanceTest, ErrorsKeepTheirCodeAndGainTheAttestorsName) {
  struct Case {
    limpet_code code;
    std::string message;
    std::string expected;
  };
  const Case cases[] = {
      {LIMPET_PERMISSION_DENIED, "no", "PermissionDenied: workloadattestor(scripted): no"},
      {LIMPET_NOT_FOUND, "", "NotFound: workloadattestor(scripted): NotFound"},
      {0, "ok?", "Unknown: workloadattestor(scripted): ok?"},
      {99, "beyond", "Unknown: workloadattestor(scripted): beyond"},
      {-1, "below", "Unknown: workloadattestor(scripted): below"},
  };
  open();
  for (size_t i = 0; i < std::size(cases); ++i) {
    Waiter<Selectors> waiter;
    attest(waiter);
    script.fail_with(i, cases[i].code, cases[i].message);
    loop.run_ready();
    EXPECT_EQ(outcome(waiter), cases[i].expected);
  }
}

TEST_F(InstanceTest, AnAnswerThatCannotBeUsedIsAnError) {
  const std::string large(limits::kPluginTextBytes + 1, 'x');
  const limpet_str items[] = {{large.data(), large.size()}, {nullptr, 5}, {"\xff", 1}};
  open();
  for (const limpet_str& item : items) {
    Waiter<Selectors> waiter;
    attest(waiter);
    const auto call = script.calls_now().back();
    call.done(call.op, nullptr, {&item, 1});
    loop.run_ready();
    EXPECT_TRUE(outcome(waiter).starts_with("Internal: workloadattestor(scripted): the plugin's answer is not usable"))
        << outcome(waiter);
  }
  Waiter<Selectors> waiter;
  attest(waiter);
  const auto call = script.calls_now().back();
  call.done(call.op, nullptr, {nullptr, 3});
  loop.run_ready();
  EXPECT_TRUE(outcome(waiter).starts_with("Internal")) << outcome(waiter);
}

using InstanceDeathTest = InstanceTest;

TEST_F(InstanceDeathTest, DoneTwiceEndsTheProcessBeforeTheLoopSawTheFirst) {
  open();
  Waiter<Selectors> waiter;
  attest(waiter);
  script.succeed(0);
  EXPECT_DEATH(script.succeed(0), "");
}

TEST_F(InstanceDeathTest, DoneTwiceEndsTheProcessAfterTheWaiterHeardOfTheFirst) {
  open();
  Waiter<Selectors> waiter;
  attest(waiter);
  script.succeed(0);
  loop.run_ready();
  ASSERT_EQ(outcome(waiter), "ok");
  EXPECT_DEATH(script.succeed(0), "");
}

TEST_F(InstanceDeathTest, AnAnswerOfAnotherKindEndsTheProcess) {
  open();
  Waiter<Selectors> waiter;
  attest(waiter);
  EXPECT_DEATH(answer_op<Bytes>(script.calls_now()[0].op, nullptr, [] { return Bytes(); }), "");
  script.succeed(0);
}

TEST_F(InstanceTest, ACallNeverAnsweredEndsAtItsDeadlineAndIsCancelled) {
  open();
  Waiter<Selectors> waiter;
  attest(waiter);
  loop.advance(limits::kWorkloadAttestMs - 1);
  EXPECT_EQ(outcome(waiter), "waiting");
  loop.advance(1);
  EXPECT_EQ(outcome(waiter),
            "DeadlineExceeded: workloadattestor(scripted): the plugin did not answer before the deadline");
  EXPECT_EQ(script.log().back(), "cancel");
  script.succeed(0);  // late, and once: nobody hears of it
  loop.run_ready();
  EXPECT_EQ(waiter.times, 1);
}

TEST_F(InstanceTest, ADroppedWaiterIsNotCalled) {
  open();
  {
    Waiter<Selectors> waiter;
    attest(waiter);
  }
  script.succeed(0);
  loop.run_ready();
  EXPECT_EQ(script.log().back(), "attest 7");
}

TEST_F(InstanceTest, ASerialPluginHasOneCallAtATime) {
  open<LIMPET_SERIAL>();
  Waiter<Selectors> first;
  Waiter<Selectors> second;
  attest(first, 1);
  attest(second, 2);
  loop.run_ready();
  EXPECT_EQ(script.log().back(), "attest 1");
  script.succeed(0);
  loop.run_ready();
  EXPECT_EQ(outcome(first), "ok");
  EXPECT_EQ(script.log().back(), "attest 2");
  script.succeed(1);
  loop.run_ready();
  EXPECT_EQ(outcome(second), "ok");
}

TEST_F(InstanceTest, ACallThatWaitedTooLongNeverReachesTheSerialPlugin) {
  open<LIMPET_SERIAL>();
  Waiter<Selectors> first;
  Waiter<Selectors> second;
  attest(first, 1);
  attest(second, 2);
  loop.advance(limits::kWorkloadAttestMs);
  EXPECT_EQ(outcome(second), "DeadlineExceeded: workloadattestor(scripted): the plugin was busy until the deadline");
  script.succeed(0);
  loop.run_ready();
  EXPECT_EQ(script.log(), (Selectors{"create", "attest 1", "cancel"}));
}

TEST_F(InstanceTest, TheQueueOfASerialPluginIsBounded) {
  open<LIMPET_SERIAL>();
  std::vector<std::unique_ptr<Waiter<Selectors>>> waiters;
  for (size_t i = 0; i < limits::kPluginQueue + 2; ++i) {
    waiters.push_back(std::make_unique<Waiter<Selectors>>());
    attest(*waiters.back());
  }
  loop.run_ready();
  EXPECT_EQ(outcome(*waiters[limits::kPluginQueue]), "waiting");
  EXPECT_EQ(outcome(*waiters.back()),
            "ResourceExhausted: workloadattestor(scripted): 1024 calls are waiting for the plugin");
  script.answer_on_cancel = true;
}

TEST_F(InstanceTest, ABlockingPluginIsCalledOnItsOwnThread) {
  script.answer_at_once = true;
  open<LIMPET_BLOCKING>();
  Waiter<Selectors> waiter;
  attest(waiter);
  ASSERT_TRUE(run_until(loop, [&] { return waiter.result.has_value(); }));
  EXPECT_EQ(outcome(waiter), "ok");
  EXPECT_NE(script.called_on, std::this_thread::get_id());
}

// ---- waiting on a worker thread ----
PluginCall attest_call() {
  return [](limpet_instance* self, limpet_op* op) {
    const limpet_workload w = {sizeof w, 9, -1, 0, 0, 0, {}, {}};
    kScriptTable.attest(self, op, &w, [](limpet_op* o, const limpet_status* err, limpet_str_list list) {
      answer_op<Selectors>(o, err, [&] { return Selectors(list.count, "found"); });
    });
  };
}

TEST_F(InstanceTest, AWorkerIsAnsweredByABlockingPluginWhileTheLoopStandsStill) {
  script.answer_at_once = true;
  open<LIMPET_BLOCKING>();
  const auto got = instance->run_and_wait<Selectors>(attest_call(), 60'000);  // nobody runs the loop
  ASSERT_TRUE(got) << got.error().text();
  EXPECT_EQ(*got, Selectors{"found"});
}

TEST_F(InstanceTest, AWorkerIsAnsweredByAPlainPluginThroughTheLoop) {
  script.answer_at_once = true;
  open();
  std::optional<Result<Selectors>> got;
  std::atomic<bool> finished = false;
  std::thread worker([&] {
    got = instance->run_and_wait<Selectors>(attest_call(), 60'000);
    finished = true;
  });
  EXPECT_TRUE(run_until(loop, [&] { return finished.load(); }));
  worker.join();
  ASSERT_TRUE(got->has_value()) << got->error().text();
  EXPECT_EQ(script.called_on, std::this_thread::get_id());
}

TEST_F(InstanceTest, AWorkerGivesUpAtItsDeadlineAndTheLateAnswerGoesNowhere) {
  open<LIMPET_BLOCKING>();
  const auto got = instance->run_and_wait<Selectors>(attest_call(), 20);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Code::deadline_exceeded);
  ASSERT_TRUE(run_until(loop, [&] { return script.calls_now().size() == 1; }));
  EXPECT_EQ(script.log().back(), "attest 9");
  loop.advance(20);  // the plugin is told, too, or it would keep the call for good
  EXPECT_EQ(script.log().back(), "cancel");
  script.succeed(0);
  loop.run_ready();
}

TEST_F(InstanceTest, AWorkerFindsAClosedPluginUnavailable) {
  open<LIMPET_BLOCKING>();
  attestor.reset();
  const auto got = instance->run_and_wait<Selectors>(attest_call(), 60'000);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Code::unavailable);
}

TEST_F(InstanceTest, APluginThatCannotBeCreatedIsAnErrorAndIsNotDestroyed) {
  script.create_code = LIMPET_UNAVAILABLE;
  const auto made = Instance::create({loop, Logger::none(), "example.org"}, kScripted<0>, "keymanager");
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().text(), "Unavailable: keymanager(scripted): the plugin could not create an instance");
  EXPECT_EQ(script.log(), Selectors{"create"});
}

// ---- services ----
struct Marks {
  std::string text;
  const limpet_host* host = nullptr;
  const limpet_timer_service* timers = nullptr;
};

TEST_F(InstanceTest, TimersFireOnceAndStoppedOnesDoNot) {
  open();
  Marks marks;
  marks.host = script.host;
  marks.timers = static_cast<const limpet_timer_service*>(script.host->service(script.host, LIMPET_SERVICE_TIMER));
  ASSERT_NE(marks.timers, nullptr);
  ASSERT_TRUE(LIMPET_HAS(marks.timers, limpet_timer_service, stop));
  const auto mark = [](void* arg) {
    auto* m = static_cast<Marks*>(arg);
    m->text += "fired ";
    m->timers->start(m->host, 5, [](void* again) { static_cast<Marks*>(again)->text += "again "; }, m);
  };
  marks.timers->start(script.host, 10, mark, &marks);
  const uint32_t stopped = marks.timers->start(script.host, 10, mark, &marks);
  marks.timers->stop(script.host, stopped);
  marks.timers->stop(script.host, stopped);
  marks.timers->stop(script.host, 12345);
  loop.advance(10);
  EXPECT_EQ(marks.text, "fired ");
  loop.advance(100);
  EXPECT_EQ(marks.text, "fired again ");
}

TEST_F(InstanceTest, TimersOfAClosedPluginNeverFire) {
  open();
  const auto* timers =
      static_cast<const limpet_timer_service*>(script.host->service(script.host, LIMPET_SERVICE_TIMER));
  timers->start(script.host, 10, [](void*) { FAIL(); }, nullptr);
  attestor.reset();
  loop.advance(100);
  EXPECT_EQ(script.log().back(), "destroy");
}

TEST_F(InstanceTest, PostRunsOnTheLoopAndUnknownServicesAreNull) {
  open();
  bool ran = false;
  std::thread([&] { script.host->post(script.host, [](void* arg) { *static_cast<bool*>(arg) = true; }, &ran); }).join();
  EXPECT_FALSE(ran);
  loop.run_ready();
  EXPECT_TRUE(ran);
  EXPECT_EQ(script.host->service(script.host, "limpet.kv/1"), nullptr);
  EXPECT_EQ(script.host->service(script.host, nullptr), nullptr);
  EXPECT_EQ(script.host->abi_minor, LIMPET_ABI_MINOR);
}

TEST_F(InstanceTest, APluginThatHoldsTheLoopIsNamedInTheLogAndABlockingOneIsNot) {
  const std::string file = ::testing::TempDir() + "limpet_plugin_budget_" + std::to_string(::getpid());
  const SystemClock clock;
  const auto logger = Logger::open({.level = LogLevel::info, .json = false, .file = file}, clock);
  ASSERT_TRUE(logger) << logger.error().text();
  const auto logged = [&] {
    std::ifstream in(file);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  const auto hold = [&](const limpet_component& component, int64_t ms) {
    const auto made = Instance::create({loop, **logger, "example.org"}, component, "workloadattestor");
    ASSERT_TRUE(made);
    Waiter<Bytes> waiter;
    const auto begun = std::make_shared<std::atomic<bool>>(false);  // the test's and the call's
    (*made)->run<Bytes>(
        [ms, begun](limpet_instance*, limpet_op* op) {
          *begun = true;
          std::this_thread::sleep_for(std::chrono::milliseconds(ms));
          answer_op<Bytes>(op, nullptr, [] { return Result<Bytes>(); });
        },
        60'000, waiter.arm());
    while (!*begun) std::this_thread::yield();  // else close() would drop a BLOCKING one
    (*made)->close();
  };
  hold(kScripted<LIMPET_BLOCKING>, 2 * limits::kPluginBudgetMs);
  EXPECT_EQ(logged().find("held the event loop"), std::string::npos) << logged();
  hold(kScripted<0>, 2 * limits::kPluginBudgetMs);
  const std::string text = logged();
  EXPECT_NE(text.find("level=warning msg=\"plugin held the event loop\""), std::string::npos) << text;
  EXPECT_NE(text.find("workloadattestor(scripted)"), std::string::npos) << text;
  EXPECT_NE(text.find("milliseconds="), std::string::npos) << text;
  std::remove(file.c_str());
}

TEST_F(InstanceTest, LogRecordsCarryThePluginsNameAndItsFields) {
  const std::string file = ::testing::TempDir() + "limpet_plugin_log_" + std::to_string(::getpid());
  const SystemClock clock;
  const auto logger = Logger::open({.level = LogLevel::info, .json = false, .file = file}, clock);
  ASSERT_TRUE(logger) << logger.error().text();
  const auto made = Instance::create({loop, **logger, "example.org"}, kScripted<0>, "workloadattestor");
  ASSERT_TRUE(made);
  const limpet_field fields[] = {{{"device", 6}, {"/dev/tpm0", 9}}, {{"tries", 5}, {"3", 1}}};
  script.host->log(script.host, 2, {"device is slow", 14}, fields, 2);
  script.host->log(script.host, 4, {"not at this level", 17}, nullptr, 0);
  script.host->log(script.host, 3, {nullptr, 5}, nullptr, 7);
  (*made)->close();
  std::ifstream in(file);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  EXPECT_NE(text.find("level=warning msg=\"device is slow\""), std::string::npos) << text;
  EXPECT_NE(text.find("workloadattestor(scripted)"), std::string::npos) << text;
  EXPECT_NE(text.find("device=/dev/tpm0 tries=3"), std::string::npos) << text;
  EXPECT_EQ(text.find("not at this level"), std::string::npos) << text;
  std::remove(file.c_str());
}

TEST_F(InstanceTest, TheTimeLeftIsWithinTheDeadline) {
  open();
  Waiter<Selectors> waiter;
  attest(waiter);
  const int64_t left = script.host->time_left_ms(script.host, script.calls_now()[0].op);
  EXPECT_LE(left, limits::kWorkloadAttestMs);
  EXPECT_NE(left, INT64_MAX);
  script.succeed(0);
}

}  // namespace
}  // namespace limpet
