// SPDX-License-Identifier: Apache-2.0
#include "loop/done.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace limpet {
namespace {

struct Waiter {
  void on_answer(Result<int> answer) { answers.push_back(answer ? std::to_string(*answer) : answer.error().message); }
  std::vector<std::string> answers;
  Pending<int> pending;
};

using Answers = std::vector<std::string>;

TEST(Done, DeliversOnce) {
  Waiter waiter;
  Done<int> done = waiter.pending.then<&Waiter::on_answer>(&waiter);
  EXPECT_TRUE(done.wanted());
  EXPECT_TRUE(waiter.pending.armed());
  done(1);
  EXPECT_FALSE(done.wanted());
  EXPECT_FALSE(waiter.pending.armed());
  done(2);
  EXPECT_EQ(waiter.answers, Answers{"1"});
}

TEST(Done, NeverCalledDeliversAnError) {
  Waiter waiter;
  {
    const Done<int> done = waiter.pending.then<&Waiter::on_answer>(&waiter);
    EXPECT_TRUE(waiter.answers.empty());
  }
  EXPECT_EQ(waiter.answers, Answers{"operation dropped"});
  EXPECT_FALSE(waiter.pending.armed());
}

TEST(Done, ThatWasMovedDeliversFromItsNewPlace) {
  Waiter waiter;
  std::optional<Done<int>> first(waiter.pending.then<&Waiter::on_answer>(&waiter));
  Done<int> second = std::move(*first);
  EXPECT_FALSE(first->wanted());
  first.reset();
  EXPECT_TRUE(waiter.answers.empty());
  std::vector<Done<int>> many;
  many.push_back(std::move(second));
  for (int i = 0; i < 100; i++) many.emplace_back();  // moves them several times
  many.front()(7);
  EXPECT_EQ(waiter.answers, Answers{"7"});
}

TEST(Done, AssignedOverDeliversAnErrorForTheOldOne) {
  Waiter a, b;
  Done<int> done = a.pending.then<&Waiter::on_answer>(&a);
  done = b.pending.then<&Waiter::on_answer>(&b);
  EXPECT_EQ(a.answers, Answers{"operation dropped"});
  Done<int>& self = done;
  done = std::move(self);
  EXPECT_TRUE(done.wanted());
  done(fail(Code::not_found, "gone"));
  EXPECT_EQ(b.answers, Answers{"gone"});
}

TEST(Done, OutlivesItsWaiterInSilence) {
  auto waiter = std::make_unique<Waiter>();
  Done<int> done = waiter->pending.then<&Waiter::on_answer>(waiter.get());
  Done<int> moved = std::move(done);
  waiter.reset();
  EXPECT_FALSE(moved.wanted());
  moved(1);
}

TEST(Pending, ForgetsTheEarlierOperationWhenArmedAgain) {
  Waiter waiter;
  Done<int> first = waiter.pending.then<&Waiter::on_answer>(&waiter);
  Done<int> second = waiter.pending.then<&Waiter::on_answer>(&waiter);
  EXPECT_FALSE(first.wanted());
  first(1);
  EXPECT_TRUE(waiter.pending.armed());
  second(2);
  EXPECT_EQ(waiter.answers, Answers{"2"});
}

TEST(Pending, DroppedHearsNothing) {
  Waiter waiter;
  {
    const Done<int> done = waiter.pending.then<&Waiter::on_answer>(&waiter);
    waiter.pending.drop();
    EXPECT_FALSE(done.wanted());
  }
  EXPECT_TRUE(waiter.answers.empty());
}

// The callback destroys the waiter and the operation that holds the Done which is being called.
struct Operation {
  Done<int> done;
};
struct Flow {
  void on_answer(Result<int>) {
    operation->reset();
    owner->reset();
  }
  std::unique_ptr<Flow>* owner;
  std::unique_ptr<Operation>* operation;
  Pending<int> pending;
};

TEST(Done, MayBeDestroyedByItsOwnDelivery) {
  auto operation = std::make_unique<Operation>();
  auto flow = std::make_unique<Flow>();
  flow->owner = &flow;
  flow->operation = &operation;
  operation->done = flow->pending.then<&Flow::on_answer>(flow.get());
  operation->done(1);
  EXPECT_EQ(flow, nullptr);
  EXPECT_EQ(operation, nullptr);
}

// The callback arms the same Pending again.
struct Repeater {
  void on_answer(Result<int> answer) {
    seen = *answer;
    next = pending.then<&Repeater::on_answer>(this);
  }
  int seen = 0;
  Pending<int> pending;
  Done<int> next;
};

TEST(Pending, MayBeArmedAgainByItsOwnDelivery) {
  Repeater repeater;
  Done<int> done = repeater.pending.then<&Repeater::on_answer>(&repeater);
  done(1);
  EXPECT_TRUE(repeater.next.wanted());
  Done<int> again = std::move(repeater.next);
  again(2);
  EXPECT_EQ(repeater.seen, 2);
  repeater.pending.drop();
}

}  // namespace
}  // namespace limpet
