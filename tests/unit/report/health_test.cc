// SPDX-License-Identifier: Apache-2.0
#include "report/health.h"

#include <gtest/gtest.h>

namespace limpet {
namespace {

TEST(Health, IsStartingUntilSomebodyReports) {
  Health health;
  EXPECT_EQ(health.worst(), HealthState::starting);
  EXPECT_FALSE(health.serving());
}

TEST(Health, IsAsGoodAsItsWorstPart) {
  Health health;
  health.report("store", HealthState::ok);
  EXPECT_TRUE(health.serving());
  health.report("link", HealthState::degraded, "server unreachable");
  EXPECT_EQ(health.worst(), HealthState::degraded);
  EXPECT_TRUE(health.serving());
  health.report("svid", HealthState::starting);
  EXPECT_EQ(health.worst(), HealthState::starting);
  EXPECT_FALSE(health.serving());
  health.report("store", HealthState::failed, "disk is full");
  EXPECT_EQ(health.worst(), HealthState::failed);
  EXPECT_EQ(health.parts().at("store").reason, "disk is full");
}

TEST(Health, RecoveryForgetsTheReason) {
  Health health;
  health.report("link", HealthState::degraded, "server unreachable");
  health.report("link", HealthState::ok, "stale");
  EXPECT_EQ(health.worst(), HealthState::ok);
  EXPECT_EQ(health.parts().at("link").reason, "");
}

TEST(Health, FactsAreLookedUpWhenSomebodyAsks) {
  Health health;
  EXPECT_TRUE(health.facts().empty());
  double hours = 2;
  health.set_facts([&hours] { return std::vector<Health::Fact>{{"survivable_hours", {}, hours}}; });
  hours = 1;
  ASSERT_EQ(health.facts().size(), 1u);
  EXPECT_EQ(health.facts()[0].number, 1);
}

TEST(Health, ANoteStandsAmongTheFactsUntilItIsTakenBack) {
  Health health;
  health.note("sandbox", "no Landlock");
  health.set_facts([] { return std::vector<Health::Fact>{{"hours", {}, 1}}; });
  ASSERT_EQ(health.facts().size(), 2u);
  EXPECT_EQ(health.facts()[1].name + ": " + health.facts()[1].text, "sandbox: no Landlock");
  health.note("sandbox", {});
  EXPECT_EQ(health.facts().size(), 1u);
}

}  // namespace
}  // namespace limpet
