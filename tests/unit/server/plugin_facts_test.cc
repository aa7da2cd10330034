// SPDX-License-Identifier: Apache-2.0
#include "server/plugin_facts.h"

#include <gtest/gtest.h>

#include "server_rig.h"

namespace limpet::server {
namespace {

struct Facts : test::ServerRig {
  std::string find(const std::string& id) {
    struct Waiter {
      void on_done(Result<KnownAgent> r) { result = std::move(r); }
      Pending<KnownAgent> pending;
      std::optional<Result<KnownAgent>> result;
    } waiter;
    StoredAgents agents(loop, *store);
    agents.find(id, waiter.pending.then<&Waiter::on_done>(&waiter));
    EXPECT_FALSE(waiter.result) << "answered before find() returned";
    run();
    if (!waiter.result) return "not answered";
    if (!*waiter.result) return waiter.result->error().text();
    const KnownAgent& agent = **waiter.result;
    return agent.id + " " + agent.attestation_type + (agent.banned ? " banned" : "");
  }
};

TEST(StoredAgents, AreFoundByTheirIdWhetherBannedOrNot) {
  Facts rig;
  ASSERT_TRUE(rig.start().has_value());
  rig.put_agent("/spire/agent/x/1", "7");
  rig.put_agent("/spire/agent/x/2", "");
  EXPECT_EQ(rig.find("spiffe://example.org/spire/agent/x/1"), "spiffe://example.org/spire/agent/x/1 join_token");
  EXPECT_EQ(rig.find("spiffe://example.org/spire/agent/x/2"), "spiffe://example.org/spire/agent/x/2 join_token banned");
  EXPECT_EQ(rig.find("spiffe://example.org/spire/agent/x/3"), "NotFound: agent not found");
  EXPECT_EQ(rig.find(""), "NotFound: agent not found");
}

TEST(IdentityPublisher, ShowsBundleAndSvidAndFollowsBoth) {
  Facts rig;
  EXPECT_EQ(rig.board.get(), nullptr);
  ASSERT_TRUE(rig.start().has_value());
  const auto first = rig.board.get();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->bundle.trust_domain.name(), "example.org");
  EXPECT_EQ(first->bundle.x509_authorities.size(), 1u);
  ASSERT_FALSE(first->svid.empty());
  EXPECT_EQ(Certificate::parse(first->svid.front())->uris.front(), "spiffe://example.org/spire/server");

  rig.core->bundles().edit_own(
      [](Bundle& bundle, ChangeSet&) {
        bundle.refresh_hint = 77;
        return true;
      },
      {});
  rig.run();
  EXPECT_EQ(rig.board.get()->bundle.refresh_hint, 77);

  for (int minutes = 0; minutes < 45; ++minutes)
    rig.pass(60);  // an SVID lives for an hour and is renewed at half of it
  EXPECT_NE(rig.board.get()->svid.front(), first->svid.front());
}

}  // namespace
}  // namespace limpet::server
