// SPDX-License-Identifier: Apache-2.0
#include "kit/enrollment_lookup.h"

#include <gtest/gtest.h>

#include <deque>
#include <future>
#include <utility>

#include "kit/kit.h"

namespace limpet::kit {
namespace {

// A host by hand: what is posted waits for the test, which is its loop, and so do the questions.
struct HandHost {
  struct Question {
    std::string identifier;
    limpet_enrollment_done done;
    void* arg;
  };
  static HandHost& of(const limpet_host* host) { return *static_cast<HandHost*>(host->ctx); }

  HandHost() {
    host.size = sizeof host;
    host.ctx = this;
    host.service = [](const limpet_host* on, const char*) -> const void* { return &of(on).enrollment; };
    host.time_left_ms = [](const limpet_host*, const limpet_op*) -> int64_t { return 60'000; };
    host.post = [](const limpet_host* on, void (*fn)(void*), void* arg) {
      const std::lock_guard lock(of(on).mutex);
      of(on).posted.emplace_back(fn, arg);
      of(on).wake.notify_all();
    };
    enrollment.size = sizeof enrollment;
    enrollment.start = [](const limpet_host* on, limpet_str identifier, limpet_enrollment_done done,
                          void* arg) -> uint32_t {
      of(on).questions.push_back({std::string(view(identifier)), done, arg});
      return static_cast<uint32_t>(of(on).questions.size());
    };
    enrollment.stop = [](const limpet_host*, uint32_t) {};
  }
  void wait_for_post() {
    std::unique_lock lock(mutex);
    wake.wait(lock, [this] { return !posted.empty(); });
  }
  void run_posted() {
    wait_for_post();
    std::unique_lock lock(mutex);
    const auto [fn, arg] = posted.front();
    posted.pop_front();
    lock.unlock();
    fn(arg);
  }
  static void answer(const Question& question, bool enrolled) {
    limpet_enrollment found = {};
    found.size = sizeof found;
    found.enrolled = enrolled ? 1 : 0;
    question.done(question.arg, nullptr, &found);
  }

  limpet_host host = {};
  limpet_enrollment_service enrollment = {};
  std::mutex mutex;  // guards posted
  std::condition_variable wake;
  std::deque<std::pair<void (*)(void*), void*>> posted;
  std::vector<Question> questions;
};

TEST(EnrollmentLookup, ALateAnswerIsNotTakenForTheNextQuestion) {
  HandHost hand;
  EnrollmentLookup lookup(&hand.host);
  char ops[2] = {};
  const auto ask = [&](char& op, const char* identifier) {
    const auto* const id = reinterpret_cast<const limpet_op*>(&op);
    lookup.begin(id);
    return std::async(std::launch::async, [&lookup, identifier] { return lookup.enrolled(identifier); });
  };
  auto first = ask(ops[0], "mine");
  hand.run_posted();
  ASSERT_EQ(hand.questions.size(), 1u);
  lookup.cancel(reinterpret_cast<const limpet_op*>(ops));
  EXPECT_EQ(first.get().error().code, Code::cancelled);

  auto second = ask(ops[1], "a stranger's");
  hand.wait_for_post();
  HandHost::answer(hand.questions[0], true);
  hand.run_posted();
  ASSERT_EQ(hand.questions.size(), 2u);
  EXPECT_EQ(hand.questions[1].identifier, "a stranger's");
  HandHost::answer(hand.questions[1], false);
  const auto found = second.get();
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_FALSE(*found);
}

TEST(EnrollmentLookup, WhatIsCancelledBeforeItsQuestionAsksNothing) {
  HandHost hand;
  EnrollmentLookup lookup(&hand.host);
  const char op = 0;
  lookup.begin(reinterpret_cast<const limpet_op*>(&op));
  lookup.cancel(reinterpret_cast<const limpet_op*>(&op));
  EXPECT_EQ(lookup.enrolled("mine").error().code, Code::cancelled);
  EXPECT_TRUE(hand.posted.empty());
}

TEST(EnrollmentLookup, ACancelMayComeBeforeItsCallAndAfterAnEarlierOne) {
  HandHost hand;
  EnrollmentLookup lookup(&hand.host);
  const char ops[3] = {};
  const auto id = [&](int i) { return reinterpret_cast<const limpet_op*>(&ops[i]); };
  lookup.begin(id(0));
  EXPECT_TRUE(lookup.wanted());
  lookup.cancel(id(1));
  EXPECT_TRUE(lookup.wanted());
  lookup.begin(id(1));
  EXPECT_FALSE(lookup.wanted());
  EXPECT_EQ(lookup.enrolled("mine").error().code, Code::cancelled);
  lookup.begin(id(2));
  EXPECT_TRUE(lookup.wanted());
  lookup.cancel(id(0));
  EXPECT_TRUE(lookup.wanted());
}

}  // namespace
}  // namespace limpet::kit
