// SPDX-License-Identifier: Apache-2.0
#include "loop/uv_loop.h"

#include <gtest/gtest.h>

#include <csignal>
#include <future>
#include <string>
#include <thread>
#include <vector>

namespace limpet {
namespace {

using namespace std::chrono_literals;

TEST(UvLoop, RunsTasksInTheOrderPosted) {
  UvLoop loop;
  std::string out;
  loop.post([&] {
    out += "a";
    loop.post([&] {
      out += "c";
      loop.stop();
    });
  });
  loop.post([&] { out += "b"; });
  loop.run();
  EXPECT_EQ(out, "abc");
}

TEST(UvLoop, StopsAtOnceWhenStoppedBeforeItRuns) {
  UvLoop loop;
  loop.stop();
  loop.run();
  bool ran = false;
  loop.post([&] {
    ran = true;
    loop.stop();
  });
  loop.run();
  EXPECT_TRUE(ran);
}

TEST(UvLoop, TakesTasksFromThreads) {
  UvLoop loop;
  int ran = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; i++) {
        loop.post([&] {
          if (++ran == 4000) loop.stop();
        });
      }
    });
  }
  loop.run();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(ran, 4000);
}

TEST(UvLoop, LetsTimersFireWhileTasksPostTasks) {
  UvLoop loop;
  struct Both {
    explicit Both(UvLoop& l) : loop(l), timer(l) {}
    void spin() {
      if (!over) loop.post([this] { spin(); });
    }
    void on_timer() {
      over = true;
      loop.stop();
    }
    UvLoop& loop;
    Timer timer;
    bool over = false;
  } both(loop);
  both.timer.start<&Both::on_timer>(5, &both);
  both.spin();
  loop.run();
  EXPECT_TRUE(both.over);
  loop.post([] {});  // dropped with the loop
}

struct Ticker {
  Ticker(UvLoop& l, std::string n, std::string& o) : loop(l), name(std::move(n)), out(o), timer(l) {}
  void start(int64_t ms) {
    due = loop.now_ms() + ms;
    timer.start<&Ticker::on_timer>(ms, this);
  }
  void on_timer() {
    EXPECT_GE(loop.now_ms(), due);  // never early
    out += name;
    if (last) loop.stop();
  }
  UvLoop& loop;
  std::string name;
  std::string& out;
  Timer timer;
  int64_t due = 0;
  bool last = false;
};

TEST(UvLoop, FiresTimersInOrderAndNeverEarly) {
  UvLoop loop;
  std::string out;
  Ticker a(loop, "a", out), b(loop, "b", out), c(loop, "c", out), d(loop, "d", out);
  a.start(600);
  b.start(60);
  d.start(20);
  c.start(300);
  a.last = true;
  d.timer.stop();  // the earliest: the loop must be armed anew
  loop.run();
  EXPECT_EQ(out, "bca");
}

struct Waiter {
  explicit Waiter(UvLoop& l) : loop(l) {}
  void on_answer(Result<std::string> answer) {
    answers.push_back(answer ? *answer : answer.error().message);
    on = std::this_thread::get_id();
    loop.stop();
  }
  UvLoop& loop;
  std::vector<std::string> answers;
  std::thread::id on;
  Pending<std::string> pending;
};

TEST(UvLoop, RunsWorkElsewhereAndAnswersHere) {
  UvLoop loop;
  Waiter waiter(loop);
  std::thread::id worker;
  loop.work(
      [&worker] {
        worker = std::this_thread::get_id();
        return Result<std::string>("done");
      },
      waiter.pending.then<&Waiter::on_answer>(&waiter));
  EXPECT_TRUE(waiter.answers.empty());
  loop.run();
  EXPECT_EQ(waiter.answers, std::vector<std::string>{"done"});
  EXPECT_EQ(waiter.on, std::this_thread::get_id());
  EXPECT_NE(worker, std::this_thread::get_id());
}

TEST(UvLoop, WaitsForJobsInFlightWhenItDies) {
  std::atomic<int> finished{0};
  std::atomic<int> started{0};
  {
    UvLoop loop;
    Waiter unanswered(loop);
    for (int i = 0; i < 32; i++) {  // more than the pool has threads: some are cancelled before they run
      auto waiter = std::make_unique<Waiter>(loop);
      auto done = i == 0 ? unanswered.pending.then<&Waiter::on_answer>(&unanswered)
                         : waiter->pending.then<&Waiter::on_answer>(waiter.get());
      loop.work(
          [&] {
            started++;
            std::this_thread::sleep_for(20ms);
            finished++;
            return Result<std::string>("late");
          },
          std::move(done));
    }
    while (started == 0) std::this_thread::yield();
  }
  EXPECT_GE(finished, 1);
  EXPECT_EQ(finished, started);
}

TEST(UvLoop, TellsAWaiterWhoseJobItDrops) {
  std::vector<std::string> answers;
  {
    auto loop = std::make_unique<UvLoop>();
    Waiter waiter(*loop);
    loop->work([] { return Result<std::string>("late"); }, waiter.pending.then<&Waiter::on_answer>(&waiter));
    loop.reset();
    answers = waiter.answers;
  }
  EXPECT_EQ(answers, std::vector<std::string>{"operation dropped"});
}

// The ECDSA seam does this: a job that posts to the loop and waits. Dropping the task must release the job.
TEST(UvLoop, DiesThoughAJobWaitsForATask) {
  bool kept = true;
  {
    UvLoop loop;
    Waiter waiter(loop);
    std::promise<void> posted;
    loop.work(
        [&] {
          std::promise<int> answer;
          std::future<int> future = answer.get_future();
          struct Signal {
            explicit Signal(std::promise<int> p) : promise(std::move(p)) {}
            Signal(Signal&& other) noexcept
                : promise(std::move(other.promise)), armed(std::exchange(other.armed, false)) {}
            ~Signal() {
              if (armed) promise.set_value(-1);
            }
            std::promise<int> promise;
            bool armed = true;
          };
          loop.post([signal = Signal(std::move(answer))] { (void)signal; });
          posted.set_value();
          kept = future.get() != -1;
          return Result<std::string>("released");
        },
        waiter.pending.then<&Waiter::on_answer>(&waiter));
    posted.get_future().wait();
  }
  EXPECT_FALSE(kept);
}

TEST(UvLoop, PostedAfterTheStopIsDropped) {
  bool ran = false;
  auto owned = std::make_shared<int>(1);
  {
    UvLoop loop;
    loop.stop();
    loop.run();
    std::thread([&] { loop.post([&, owned] { ran = true; }); }).join();
    EXPECT_EQ(owned.use_count(), 2);
  }
  EXPECT_FALSE(ran);
  EXPECT_EQ(owned.use_count(), 1);
}

TEST(UvLoop, DeliversSignals) {
  UvLoop loop;
  int seen = 0;
  ASSERT_TRUE(loop.on_signal(SIGUSR1, [&] {
    if (++seen == 2) {
      loop.stop();
    } else {
      raise(SIGUSR1);
    }
  }));
  loop.post([] { raise(SIGUSR1); });
  loop.run();
  EXPECT_EQ(seen, 2);
  const auto bad = loop.on_signal(SIGKILL, [] {});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().message, "watch signal 9: invalid argument");
}

}  // namespace
}  // namespace limpet
