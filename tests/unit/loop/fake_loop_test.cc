// SPDX-License-Identifier: Apache-2.0
#include "loop/fake_loop.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "loop/destroy_at_every_step.h"

namespace limpet {
namespace {

struct Ticker {
  Ticker(FakeLoop& l, std::string n, std::string& o) : loop(l), name(std::move(n)), out(o), timer(l) {}
  void start(int64_t ms) { timer.start<&Ticker::on_timer>(ms, this); }
  void on_timer() {
    out += name;
    if (again > 0) {
      again--;
      start(0);
    }
    if (stops != nullptr) stops->timer.stop();
    if (destroys != nullptr) destroys->reset();
  }
  FakeLoop& loop;
  std::string name;
  std::string& out;
  Timer timer;
  int again = 0;
  Ticker* stops = nullptr;
  std::unique_ptr<Ticker>* destroys = nullptr;
};

TEST(Timer, FiresInOrderOfTimeThenOfStart) {
  FakeLoop loop;
  std::string out;
  Ticker a(loop, "a", out), b(loop, "b", out), c(loop, "c", out), d(loop, "d", out);
  a.start(30);
  b.start(10);
  c.start(20);
  d.start(20);
  loop.advance(9);
  EXPECT_EQ(out, "");
  loop.advance(1);
  EXPECT_EQ(out, "b");
  EXPECT_FALSE(b.timer.running());
  loop.advance(100);
  EXPECT_EQ(out, "bcda");
  loop.advance(100);
  EXPECT_EQ(out, "bcda");
}

TEST(Timer, RestartedCountsFromTheRestart) {
  FakeLoop loop;
  std::string out;
  Ticker a(loop, "a", out);
  a.start(10);
  loop.advance(9);
  a.start(10);
  loop.advance(9);
  EXPECT_EQ(out, "");
  EXPECT_TRUE(a.timer.running());
  loop.advance(1);
  EXPECT_EQ(out, "a");
}

TEST(Timer, StoppedOrDestroyedDoesNotFire) {
  FakeLoop loop;
  std::string out;
  Ticker a(loop, "a", out);
  auto b = std::make_unique<Ticker>(loop, "b", out);
  a.start(1);
  b->start(1);
  a.timer.stop();
  a.timer.stop();
  b.reset();
  loop.advance(10);
  EXPECT_EQ(out, "");
}

TEST(Timer, StoppedByAnotherOfTheSameMomentDoesNotFire) {
  FakeLoop loop;
  std::string out;
  Ticker a(loop, "a", out), b(loop, "b", out);
  a.stops = &b;
  a.start(5);
  b.start(5);
  loop.advance(5);
  EXPECT_EQ(out, "a");
}

TEST(Timer, MayDestroyItselfOrAnotherInItsCallback) {
  FakeLoop loop;
  std::string out;
  auto a = std::make_unique<Ticker>(loop, "a", out);
  auto b = std::make_unique<Ticker>(loop, "b", out);
  auto c = std::make_unique<Ticker>(loop, "c", out);
  a->destroys = &a;
  b->destroys = &c;
  a->start(5);
  b->start(5);
  c->start(5);
  loop.advance(5);
  EXPECT_EQ(out, "ab");
  EXPECT_EQ(a, nullptr);
  EXPECT_EQ(c, nullptr);
}

TEST(Timer, OfZeroMillisecondsThatRestartsItselfLetsOthersRun) {
  FakeLoop loop;
  std::string out;
  Ticker a(loop, "a", out), b(loop, "b", out);
  a.again = 2;
  a.start(0);
  b.start(0);
  EXPECT_TRUE(loop.run_next_timer());
  EXPECT_EQ(out, "ab");
  loop.advance(0);
  EXPECT_EQ(out, "abaa");
}

TEST(Timer, WithNegativeTimeFiresAtTheNextTurn) {
  FakeLoop loop;
  std::string out;
  Ticker a(loop, "a", out);
  a.start(-5);
  EXPECT_EQ(out, "");
  loop.advance(0);
  EXPECT_EQ(out, "a");
}

TEST(FakeLoop, RunsTasksInTheOrderPosted) {
  FakeLoop loop;
  std::string out;
  loop.post([&] {
    out += "a";
    loop.post([&] { out += "c"; });
  });
  loop.post([&] { out += "b"; });
  EXPECT_EQ(out, "");
  EXPECT_TRUE(loop.run_one());
  EXPECT_EQ(out, "a");
  EXPECT_EQ(loop.run_ready(), 2u);
  EXPECT_EQ(out, "abc");
  EXPECT_FALSE(loop.run_one());
}

struct Waiter {
  void on_answer(Result<std::string> answer) { answers.push_back(answer ? *answer : answer.error().message); }
  std::vector<std::string> answers;
  Pending<std::string> pending;
};

TEST(FakeLoop, RunsWorkerJobsWhenTold) {
  FakeLoop loop;
  loop.eager_workers = false;
  Waiter waiter;
  loop.work([] { return Result<std::string>("done"); }, waiter.pending.then<&Waiter::on_answer>(&waiter));
  EXPECT_EQ(loop.run_ready(), 0u);
  EXPECT_EQ(loop.run_workers(), 1u);
  EXPECT_TRUE(waiter.answers.empty());
  loop.run_ready();
  EXPECT_EQ(waiter.answers, std::vector<std::string>{"done"});
}

TEST(FakeLoop, DropsWhatNeverRanAndTellsTheWaiter) {
  Waiter waiter, other;
  {
    FakeLoop loop;
    loop.work([] { return Result<std::string>("never"); }, waiter.pending.then<&Waiter::on_answer>(&waiter));
    loop.post([done = other.pending.then<&Waiter::on_answer>(&other)]() mutable { done("never"); });
  }
  EXPECT_EQ(waiter.answers, std::vector<std::string>{"operation dropped"});
  EXPECT_EQ(other.answers, std::vector<std::string>{"operation dropped"});
}

TEST(FakeLoop, TakesTasksFromThreads) {
  FakeLoop loop;
  int ran = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; i++) loop.post([&] { ran++; });
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(loop.run_ready(), 4000u);
  EXPECT_EQ(ran, 4000);
}

// A flow of three steps: a worker, a task, a timer.
struct ThreeSteps {
  ThreeSteps(FakeLoop& l, int& e) : loop(l), ended(e), timer(l) {
    loop.work([] { return Result<std::string>("x"); }, pending.then<&ThreeSteps::on_work>(this));
  }
  void on_work(Result<std::string>) {
    loop.post([done = posted.then<&ThreeSteps::on_task>(this)]() mutable { done(1); });
  }
  void on_task(Result<int>) { timer.start<&ThreeSteps::on_timer>(1000, this); }
  void on_timer() { ended++; }
  FakeLoop& loop;
  int& ended;
  Pending<std::string> pending;
  Pending<int> posted;
  Timer timer;
};

TEST(DestroyAtEveryStep, RunsEveryPrefixOfAFlow) {
  int made = 0, ended = 0;
  const size_t n = destroy_at_every_step([&](FakeLoop& loop) {
    made++;
    return std::make_unique<ThreeSteps>(loop, ended);
  });
  EXPECT_EQ(n, 4u);     // run, finish, task, timer
  EXPECT_EQ(made, 6);   // one whole run, then 0 to 4 steps
  EXPECT_EQ(ended, 2);  // the whole run and the one destroyed after its last step
}

struct WithFakes {
  WithFakes(FakeLoop& loop, int& e) : flow(std::make_unique<ThreeSteps>(loop, e)) {}
  std::unique_ptr<ThreeSteps> flow;
};

TEST(DestroyAtEveryStep, DestroysOnlyTheFlowOfAScenario) {
  int ended = 0;
  EXPECT_EQ(destroy_at_every_step([&](FakeLoop& loop) { return std::make_unique<WithFakes>(loop, ended); }), 4u);
  EXPECT_EQ(ended, 2);
}

}  // namespace
}  // namespace limpet
