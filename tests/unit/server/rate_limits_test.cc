// SPDX-License-Identifier: Apache-2.0
#include "server/rate_limits.h"

#include <gtest/gtest.h>

#include "loop/fake_loop.h"

namespace limpet::server {
namespace {

struct Caller {
  void wait(RateLimiter& limiter, const std::string& ip, size_t count, int64_t left = INT64_MAX) {
    limiter.wait(ip, count, left, pending.then<&Caller::on_done>(this));
  }
  void on_done(Result<void> r) { result = std::move(r); }
  Pending<void> pending;
  std::optional<Result<void>> result;
};

TEST(RateLimiter, DelaysWhoComesTooOftenAndNobodyElse) {
  FakeLoop loop;
  RateLimiter limiter(loop, 1);
  Caller first, second, third, other;
  first.wait(limiter, "192.0.2.1", 1);
  EXPECT_FALSE(first.result);  // never before it returned
  second.wait(limiter, "192.0.2.1", 1);
  third.wait(limiter, "192.0.2.1", 1);
  other.wait(limiter, "192.0.2.2", 1);
  loop.advance(0);
  EXPECT_TRUE(first.result && *first.result);
  EXPECT_TRUE(other.result && *other.result);
  EXPECT_FALSE(second.result);
  loop.advance(1000);
  EXPECT_TRUE(second.result && *second.result);
  EXPECT_FALSE(third.result);
  loop.advance(1000);
  EXPECT_TRUE(third.result && *third.result);
}

TEST(RateLimiter, ARateMayChangeWhileItRuns) {
  FakeLoop loop;
  RateLimits limits(loop, true, true);
  Caller first, second, third;
  first.wait(limits.attest, "192.0.2.1", 1);
  limits.set(false, true);
  second.wait(limits.attest, "192.0.2.1", 1);
  loop.advance(0);
  EXPECT_TRUE(second.result && *second.result);
  limits.set(true, true);
  third.wait(limits.attest, "192.0.2.1", 1);
  loop.advance(0);
  EXPECT_FALSE(third.result);  // the bucket is as empty as it was
}

TEST(RateLimiter, RefusesWhatCanNeverBeServedAndWhatWouldComeTooLate) {
  FakeLoop loop;
  RateLimiter limiter(loop, 5);
  Caller large, exact, late, patient;
  large.wait(limiter, "192.0.2.1", 6);
  exact.wait(limiter, "192.0.2.1", 5);
  late.wait(limiter, "192.0.2.1", 5, 999);
  loop.advance(0);
  ASSERT_TRUE(large.result && !*large.result);
  EXPECT_EQ(large.result->error().code, Code::resource_exhausted);
  EXPECT_EQ(large.result->error().message, "rate (6) exceeds burst size (5)");
  EXPECT_TRUE(exact.result && *exact.result);
  ASSERT_TRUE(late.result && !*late.result);
  EXPECT_EQ(late.result->error().message, "rate: Wait(n=5) would exceed context deadline");
  patient.wait(limiter, "192.0.2.1", 5, 1001);  // the late one took nothing
  loop.advance(1000);
  EXPECT_TRUE(patient.result && *patient.result);
}

TEST(RateLimiter, LetsTheLocalSocketAndASwitchedOffLimitThrough) {
  FakeLoop loop;
  RateLimiter limited(loop, 1), off(loop, 0);
  Caller local, unlimited;
  local.wait(limited, "", 1'000'000);
  unlimited.wait(off, "192.0.2.1", 1'000'000);
  loop.advance(0);
  EXPECT_TRUE(local.result && *local.result);
  EXPECT_TRUE(unlimited.result && *unlimited.result);
  EXPECT_EQ(limited.buckets(), 0u);
}

TEST(RateLimiter, ForgetsCallersWhoseBucketIsFullAgain) {
  FakeLoop loop;
  RateLimiter limiter(loop, 1);
  Caller caller;
  for (int i = 0; i < 50; i++) caller.wait(limiter, "192.0.2." + std::to_string(i), 1);
  EXPECT_EQ(limiter.buckets(), 50u);
  loop.advance(61'000);
  caller.wait(limiter, "198.51.100.1", 1);
  EXPECT_EQ(limiter.buckets(), 1u);
}

TEST(RateLimiter, AWaiterOrTheLimiterMayDieFirst) {
  FakeLoop loop;
  auto limiter = std::make_unique<RateLimiter>(loop, 1);
  Caller stays;
  {
    Caller goes;
    goes.wait(*limiter, "192.0.2.1", 1);
    goes.wait(*limiter, "192.0.2.1", 1);
  }
  stays.wait(*limiter, "192.0.2.1", 1);
  limiter.reset();
  loop.advance(10'000);
  ASSERT_TRUE(stays.result);
  EXPECT_FALSE(*stays.result);
}

TEST(RateLimiter, NobodyFillsItAloneAndWhoGivesUpGivesHisTokensBack) {
  FakeLoop loop;
  RateLimiter limiter(loop, 1);
  std::vector<std::unique_ptr<Caller>> crowd;
  for (int i = 0; i < 1025; i++) {
    crowd.push_back(std::make_unique<Caller>());
    crowd.back()->wait(limiter, "192.0.2.1", 1);
  }
  Caller late, other;
  late.wait(limiter, "192.0.2.1", 1);
  other.wait(limiter, "192.0.2.2", 1);
  loop.advance(0);
  ASSERT_TRUE(late.result && !*late.result);
  EXPECT_EQ(late.result->error().code, Code::resource_exhausted);
  EXPECT_TRUE(other.result && *other.result) << "another address is not concerned";
  crowd.clear();
  loop.advance(50);
  Caller next;
  next.wait(limiter, "192.0.2.1", 1);
  loop.advance(2'000);
  EXPECT_TRUE(next.result && *next.result) << "those who left owe nothing";
}

}  // namespace
}  // namespace limpet::server
