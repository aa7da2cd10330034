// SPDX-License-Identifier: Apache-2.0
// The agent's time: a clock that is not set, one that is ahead, and what a server's certificates say meanwhile.
#include <gtest/gtest.h>

#include "agent/agent_svid.h"
#include "agent/trusted_clock.h"
#include "support/mint.h"

namespace limpet::test {
namespace {

TEST(TrustedClock, GoesOnFromTheKnownTimeWhileTheClockIsNotSet) {
  FakeClock system(0);
  agent::TrustedClock clock(system);
  clock.set_floor(kNow);
  EXPECT_TRUE(clock.behind());
  EXPECT_EQ(clock.now(), kNow);
  system.advance_ms(3'600'000);
  EXPECT_EQ(clock.now(), kNow + 3600);
  clock.set_floor(kNow + 100);
  EXPECT_EQ(clock.now(), kNow + 100) << "from the newest known time on";
  system.advance_ms(1'000);
  EXPECT_EQ(clock.now(), kNow + 101);
  system.set(kNow + 50'000);
  EXPECT_FALSE(clock.behind());
  EXPECT_EQ(clock.now(), kNow + 50'000);
}

TEST(TrustedClock, NeverGoesBackBelowTheKnownTimeAndFollowsACorrectedClock) {
  FakeClock system(kNow + 600);
  agent::TrustedClock clock(system);
  clock.set_floor(kNow + 600);
  clock.set_floor(kNow);
  system.set(kNow);
  EXPECT_GE(clock.now(), kNow + 600);
  system.advance_ms(601'000);
  EXPECT_EQ(clock.now(), kNow + 601) << "the system's clock has caught up";
}

TEST(TrustedClock, WhileItIsNotSetNoCertificateIsTooYoungButOneMayBeTooOld) {
  FakeClock system(0);
  agent::TrustedClock clock(system);
  clock.set_floor(kNow);
  CertificateTemplate young = leaf_template();
  young.not_before = kNow + 86'400;
  young.not_after = kNow + 90'000;
  const std::vector<Bytes> chain = {issue(make_root(), young).der};
  EXPECT_EQ(agent::judged_at(clock, chain), kNow + 86'400);
  system.set(kNow + 1);
  EXPECT_EQ(agent::judged_at(clock, chain), kNow + 1) << "a clock that is set is believed";
  system.set(0);
  clock.set_floor(kNow + 90'001);
  EXPECT_EQ(agent::judged_at(clock, chain), kNow + 90'001) << "expired is expired";
}

}  // namespace
}  // namespace limpet::test
