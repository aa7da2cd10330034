// SPDX-License-Identifier: Apache-2.0
// The flows between agent and server, against a server that does as told: attestation, renewal, signing.
#include <gtest/gtest.h>

#include "agent/attest_flow.h"
#include "agent/renew_flow.h"
#include "agent/sign_batch.h"
#include "fakes.h"
#include "loop/destroy_at_every_step.h"

namespace limpet::test {
namespace {

using agent::NewIdentity;

template <class T>
struct Caught {
  Done<T> done() { return pending.template then<&Caught::on>(this); }
  void on(Result<T> r) {
    result = std::move(r);
    times++;
  }
  [[nodiscard]] bool ok() const { return result && result->has_value(); }
  [[nodiscard]] Error error() const { return result && !*result ? result->error() : Error{Code::ok, "no error"}; }
  std::optional<Result<T>> result;
  int times = 0;
  Pending<T> pending;
};

struct AttestScenario : World {
  explicit AttestScenario(FakeLoop& l, int challenges = 2) : World(l) {
    server.challenges = challenges;
    flow = std::make_unique<agent::AttestFlow>(l, *clock, dialer, trust, keys, attestor);
    flow->start("agent-svid-A", caught.done());
  }
  Caught<NewIdentity> caught;
  std::unique_ptr<agent::AttestFlow> flow;
};

TEST(AttestFlow, AnswersChallengesAndBringsTheSvidAndTheBundle) {
  FakeLoop loop;
  AttestScenario s(loop);
  loop.run_ready();
  ASSERT_TRUE(s.caught.ok()) << s.caught.error().text();
  const NewIdentity& identity = **s.caught.result;
  EXPECT_EQ(identity.svid.key_id, "agent-svid-A");
  EXPECT_EQ(identity.bundle, s.server.bundle);
  EXPECT_FALSE(identity.svid.reattestable);
  EXPECT_EQ(s.server.payloads, (std::vector<std::string>{"payload", "answer to challenge", "answer to challenge"}));
  EXPECT_EQ(s.dialer.shown, std::vector<bool>{false}) << "attestation shows no certificate";
}

struct Wrong {
  const char* name;
  void (*make)(FakeServer&);
  const char* says;
};
class AttestFlowAgainst : public ::testing::TestWithParam<Wrong> {};

TEST_P(AttestFlowAgainst, EndsWithAnErrorThatSaysWhat) {
  FakeLoop loop;
  AttestScenario s(loop, 0);
  GetParam().make(s.server);
  loop.run_ready();
  if (s.caught.times == 0) loop.advance(agent::AttestFlow::kDeadlineMs);
  ASSERT_EQ(s.caught.times, 1);
  EXPECT_NE(s.caught.error().text().find(GetParam().says), std::string::npos) << s.caught.error().text();
}

INSTANTIATE_TEST_SUITE_P(
    Servers, AttestFlowAgainst,
    ::testing::Values(Wrong{"Unreachable", [](FakeServer& s) { s.unreachable = true; }, "connection refused"},
                      Wrong{"Silent", [](FakeServer& s) { s.silent = true; }, "longer than 60 s"},
                      Wrong{"EndlessChallenges", [](FakeServer& s) { s.challenges = 1000; }, "more than 8 challenges"},
                      Wrong{"AnotherKey", [](FakeServer& s) { s.wrong_key = true; }, "another key"},
                      Wrong{"NotAnAgent", [](FakeServer& s) { s.agent_path = "/web"; }, "not an agent's SPIFFE ID"},
                      Wrong{"Expired", [](FakeServer& s) { s.lifetime = -20; }, "expired"},
                      Wrong{"ForeignBundle",
                            [](FakeServer& s) { s.bundle.trust_domain = *TrustDomain::parse("other.org"); },
                            "other.org"},
                      Wrong{"BundleOfOthers",
                            [](FakeServer& s) {
                              s.bundle.x509_authorities = {
                                  {make_root("other", KeyType::ec_p256, 9).certificate.der, false}};
                            },
                            "unknown authority"},
                      Wrong{"NoBundle", [](FakeServer& s) { s.refuse["GetBundle"] = {Code::unavailable, "later"}; },
                            "get the trust bundle: later"},
                      Wrong{"Refused", [](FakeServer& s) { s.refuse["AttestAgent"] = {Code::permission_denied, "no"}; },
                            "PermissionDenied: no"}),
    [](const auto& param) { return param.param.name; });

TEST(AttestFlow, MakesNoKeyWhileTheServerIsUnreachable) {
  FakeLoop loop;
  AttestScenario s(loop);
  s.server.unreachable = true;
  loop.run_ready();
  EXPECT_TRUE(s.keys.generated.empty());
}

TEST(AttestFlow, MayDieAtEachOfItsSteps) {
  EXPECT_GT(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<AttestScenario>(loop); }), 10u);
}

struct RenewScenario : World {
  explicit RenewScenario(FakeLoop& l) : World(l) {
    attested();
    flow = std::make_unique<agent::RenewFlow>(l, *clock, link, trust, keys);
    flow->start("agent-svid-B", caught.done());
  }
  Caught<NewIdentity> caught;
  std::unique_ptr<agent::RenewFlow> flow;
};

TEST(RenewFlow, BringsAnSvidForAKeyInTheOtherSlot) {
  FakeLoop loop;
  RenewScenario s(loop);
  loop.run_ready();
  ASSERT_TRUE(s.caught.ok()) << s.caught.error().text();
  EXPECT_EQ((*s.caught.result)->svid.key_id, "agent-svid-B");
  EXPECT_TRUE((*s.caught.result)->bundle.trust_domain.empty()) << "a renewal leaves the bundle alone";
  EXPECT_EQ(s.dialer.shown, std::vector<bool>{true});
}

TEST(RenewFlow, RefusesAnSvidForAnotherKey) {
  FakeLoop loop;
  RenewScenario s(loop);
  s.server.wrong_key = true;
  loop.run_ready();
  EXPECT_EQ(s.caught.error().code, Code::unauthenticated);
}

TEST(RenewFlow, MayDieAtEachOfItsSteps) {
  EXPECT_GT(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<RenewScenario>(loop); }), 5u);
}

struct SignScenario : World {
  explicit SignScenario(FakeLoop& l, size_t count = 3) : World(l) {
    attested();
    std::vector<agent::SignItem> items;
    for (size_t i = 0; i < count; i++) {
      server.entries.push_back(make_entry("e" + std::to_string(i), "/w" + std::to_string(i), {{"unix", "uid:1"}}));
      items.push_back({server.entries.back().id, server.entries.back().spiffe_id, 7, 100});
    }
    flow = std::make_unique<agent::SignBatch>(l, link, KeyType::ec_p256);
    flow->start(std::move(items), caught.done());
  }
  Caught<std::vector<agent::SignedItem>> caught;
  std::unique_ptr<agent::SignBatch> flow;
};

TEST(SignBatch, BringsOneAnswerPerItemInOrder) {
  FakeLoop loop;
  SignScenario s(loop, 20);  // more than one job of keys
  s.server.refuse_entries = {"e1"};
  loop.run_ready();
  ASSERT_TRUE(s.caught.ok()) << s.caught.error().text();
  auto& items = **s.caught.result;
  ASSERT_EQ(items.size(), 20u);
  for (size_t i = 0; i < 20; i++) EXPECT_EQ(items[i].item.entry_id, "e" + std::to_string(i));
  EXPECT_EQ(items[1].svid.error().code, Code::not_found);
  ASSERT_TRUE(items[0].svid.has_value());
  const agent::CachedSvid& svid = **items[0].svid;
  EXPECT_EQ(svid.revision_number, 7);
  const auto chain = parse_certificates(svid.chain);
  EXPECT_EQ(PrivateKey::from_pkcs8(svid.key.view())->public_key(), chain->front().key);
}

TEST(SignBatch, RefusesAnSvidForAnotherKey) {
  FakeLoop loop;
  SignScenario s(loop, 1);
  s.server.wrong_key = true;
  loop.run_ready();
  ASSERT_TRUE(s.caught.ok());
  EXPECT_FALSE((*s.caught.result)->front().svid.has_value());
}

TEST(SignBatch, MayDieAtEachOfItsSteps) {
  EXPECT_GT(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<SignScenario>(loop); }), 5u);
}

}  // namespace
}  // namespace limpet::test
