// SPDX-License-Identifier: Apache-2.0
#include "server/agent_pruner.h"

#include <gtest/gtest.h>

#include "server/ttl_warnings.h"
#include "server_rig.h"

namespace limpet::server {
namespace {

constexpr int64_t kHour = 3600;

struct Agents : test::ServerRig {
  void add(const char* name, int64_t expires_in, bool can_reattest, bool banned = false) {
    AgentRecord agent;
    agent.id = "spiffe://example.org/spire/agent/" + std::string(name);
    agent.attestation_type = "test";
    agent.serial = banned ? "" : "7";
    agent.not_after = clock.now() + expires_in;
    agent.can_reattest = can_reattest;
    AgentTable table(store->read());
    ChangeSet changes;
    table.create(changes, agent);
    ASSERT_TRUE(commit(std::move(changes)).has_value());
  }
  std::string left() {
    std::string names;
    Snapshot snapshot = store->read();
    (void)scan_agents(snapshot, 0, [&](AgentRow&& row) {
      names += row.agent.id.substr(row.agent.id.rfind('/') + 1) + " ";
      return true;
    });
    return names;
  }
  void some() {
    add("long", -10 * kHour, true);
    add("tofu", -10 * kHour, false);
    add("banned", -10 * kHour, true, true);
    add("short", -kHour, true);
    add("valid", 10 * kHour, true);
    add("old", -20 * kHour, true);
  }
};

TEST(AgentPruner, IsOffUnlessItIsAskedFor) {
  Agents rig;
  rig.some();
  ASSERT_TRUE(rig.start().has_value());
  rig.pass(kHour + 1);
  EXPECT_EQ(rig.left(), "long tofu banned short valid old ");
}

TEST(AgentPruner, RemovesAfterAnHourWhatExpiredLongAgoAndCanAttestAgain) {
  Agents rig;
  rig.config.prune_attested_nodes_expired_for_s = 5 * kHour;
  rig.some();
  ASSERT_TRUE(rig.start().has_value());
  EXPECT_EQ(rig.left(), "long tofu banned short valid old ");
  rig.pass(kHour + 1);
  EXPECT_EQ(rig.left(), "tofu banned short valid ");
}

TEST(AgentPruner, RemovesAgentsOfOneUseWhenToldTo) {
  Agents rig;
  rig.config.prune_attested_nodes_expired_for_s = 5 * kHour;
  rig.config.prune_tofu_nodes = true;
  rig.some();
  ASSERT_TRUE(rig.start().has_value());
  rig.pass(kHour + 1);
  EXPECT_EQ(rig.left(), "banned short valid ");
}

TEST(AgentPruner, GoesOnAtOnceWhenABatchWasFull) {
  Agents rig;
  rig.config.prune_attested_nodes_expired_for_s = 5 * kHour;
  rig.config.prune_attested_nodes_batch_size = 1;
  rig.some();
  ASSERT_TRUE(rig.start().has_value());
  rig.pass(kHour + 1);
  rig.pass(1);
  EXPECT_EQ(rig.left(), "tofu banned short valid ");
}

TEST(TtlWarnings, NameTheKeyAndBothWaysOut) {
  ServerConfig config;
  EXPECT_TRUE(ttl_warnings(config).empty());
  config.default_x509_svid_ttl_s = 4 * kHour;  // a sixth of a day
  EXPECT_TRUE(ttl_warnings(config).empty());
  config.default_x509_svid_ttl_s = 4 * kHour + 1;
  config.agent_ttl_s = 8 * 24 * kHour;
  const auto warnings = ttl_warnings(config);
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_EQ(warnings[0],
            "default_x509_svid_ttl is too long for ca_ttl: some SVIDs will live shorter. Set it to 14400s or less, or "
            "ca_ttl to 86406s or more");
  EXPECT_EQ(warnings[1], "agent_ttl is too long for ca_ttl: some SVIDs will live shorter. Set it to 14400s or less");
}

}  // namespace
}  // namespace limpet::server
