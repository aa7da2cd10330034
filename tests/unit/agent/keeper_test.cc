// SPDX-License-Identifier: Apache-2.0
// The agent's own SVID over its life: first attestation, restart, renewal, refusals, a long outage.
#include <gtest/gtest.h>

#include "agent/agent_keeper.h"
#include "agent/phase.h"
#include "fakes.h"
#include "loop/destroy_at_every_step.h"

namespace limpet::test {
namespace {

struct KeeperScenario : World, agent::AgentKeeperClient {
  explicit KeeperScenario(FakeLoop& l) : World(l) {
    flow = std::make_unique<agent::AgentKeeper>(
        agent::AgentKeeperParts{l, *clock, log, health, dialer, trust, link, keys, attestor, saver, *this});
  }
  void on_identity() override {
    identities++;
    link.refresh();
  }
  void on_bundle(const Bundle&) override { bundles++; }
  // An SVID as an earlier run stored it.
  AgentSvid stored(int64_t not_before, int64_t not_after, bool reattestable = false) {
    const ManagedKey key = keys.put("agent-svid-A", 200);
    CertificateTemplate cert = leaf_template();
    cert.spki = key.key.spki();
    cert.uris = {"spiffe://example.org/spire/agent/join_token/t"};
    cert.not_before = not_before;
    cert.not_after = not_after;
    trust.set_bundle(server.bundle);
    return {{issue(server.root, cert).der}, "agent-svid-A", reattestable};
  }
  std::string svid_health() { return health.parts().find("svid")->second.reason; }
  HealthState svid_state() { return health.parts().find("svid")->second.state; }
  int identities = 0;
  int bundles = 0;
  std::unique_ptr<agent::AgentKeeper> flow;
};

TEST(AgentKeeper, AttestsWhenThereIsNoSvidAndStoresItBeforeUse) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.flow->start({});
  EXPECT_EQ(s.svid_state(), HealthState::starting);
  while (s.saver.saved.empty() && loop.run_one()) EXPECT_EQ(s.trust.credential() == nullptr, s.saver.saved.empty());
  loop.run_ready();
  EXPECT_EQ(s.identities, 1);
  EXPECT_EQ(s.bundles, 1);
  EXPECT_NE(s.trust.credential(), nullptr);
  EXPECT_EQ(s.svid_state(), HealthState::ok);
}

TEST(AgentKeeper, UsesTheStoredSvidWithoutAskingTheServer) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.server.unreachable = true;
  s.flow->start(s.stored(kNow - 10, kNow + 3600));
  loop.run_ready();
  EXPECT_EQ(s.identities, 1);
  EXPECT_EQ(s.server.count("AttestAgent"), 0u);
}

TEST(AgentKeeper, AttestsWhenTheKeyOfTheStoredSvidIsGone) {
  FakeLoop loop;
  KeeperScenario s(loop);
  const AgentSvid svid = s.stored(kNow - 10, kNow + 3600);
  s.keys.put("agent-svid-A", 201);  // replaced
  s.flow->start(svid);
  loop.run_ready();
  EXPECT_EQ(s.server.count("AttestAgent"), 1u);
  EXPECT_EQ(s.identities, 1);
}

std::string key_health(const Health& health) {
  const auto part = health.parts().find("key");
  return part == health.parts().end() ? "not told" : part->second.state == HealthState::ok ? "ok" : part->second.reason;
}

TEST(AgentKeeper, AKeyThatIsAwayForAWhileIsNamedAndWaitedFor) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.dialer.signs = true;
  s.flow->start(s.stored(kNow - 10, kNow + 3600));
  loop.run_ready();
  EXPECT_TRUE(s.link.up());
  EXPECT_EQ(key_health(s.health), "not told");
  s.keys.trouble = Error{Code::unavailable, "keymanager(tpm2): TPM /dev/tpmrm0: no answer within 10 s"};
  s.link.refresh();
  loop.run_ready();
  EXPECT_FALSE(s.link.up());
  EXPECT_EQ(key_health(s.health), "Unavailable: keymanager(tpm2): TPM /dev/tpmrm0: no answer within 10 s");
  EXPECT_EQ(s.health.parts().find("link")->second.reason,
            "Unavailable: sign with the agent's key: keymanager(tpm2): TPM /dev/tpmrm0: no answer within 10 s");
  s.keys.trouble.reset();
  s.pass(60);
  EXPECT_TRUE(s.link.up());
  EXPECT_EQ(key_health(s.health), "ok");
  EXPECT_EQ(s.keys_lost, 0);
  EXPECT_EQ(s.server.count("AttestAgent"), 0u);
}

TEST(AgentKeeper, AKeyThatIsLostIsReplacedByAnotherAttestation) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.tell_key_lost = [&](const Error& why) { s.flow->on_key_lost(why); };
  s.dialer.signs = true;
  s.keys.trouble = Error{Code::failed_precondition, "keymanager(tpm2): key agent-svid-A was made by another TPM"};
  s.flow->start(s.stored(kNow - 10, kNow + 3600));
  s.pass(5);
  EXPECT_GE(s.keys_lost, 1);
  EXPECT_EQ(s.server.count("AttestAgent"), 1u);
  EXPECT_EQ(s.keys.generated, std::vector<std::string>{"agent-svid-B"}) << "the old one's place is not taken";
  EXPECT_TRUE(s.link.up());
  EXPECT_EQ(key_health(s.health), "ok");
}

TEST(AgentKeeper, AKeyThatComesBackWhileTheServerRefusesAnotherIsUsedAgain) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.tell_key_lost = [&](const Error& why) { s.flow->on_key_lost(why); };
  s.dialer.signs = true;
  s.keys.trouble = Error{Code::failed_precondition, "another TPM"};
  s.server.refuse["AttestAgent"] = Error{Code::invalid_argument, "join token does not exist or has already been used"};
  s.flow->start(s.stored(kNow - 10, kNow + 3600));
  s.pass(300);
  EXPECT_GE(s.server.count("AttestAgent"), 2u);
  EXPECT_FALSE(s.link.up());
  s.keys.trouble.reset();
  s.pass(60);
  EXPECT_TRUE(s.link.up());
  s.flow->on_accepted();
  const size_t attempts = s.server.count("AttestAgent");
  s.pass(300);
  EXPECT_EQ(s.server.count("AttestAgent"), attempts) << "no need for another one";
}

TEST(AgentKeeper, RenewsAtHalfLifeByItsKindWithTheOtherKey) {
  for (const bool reattestable : {false, true}) {
    FakeLoop loop;
    KeeperScenario s(loop);
    s.server.reattestable = reattestable;
    s.flow->start(s.stored(kNow, kNow + 3600, reattestable));
    s.pass(1500);
    EXPECT_TRUE(s.saver.saved.empty()) << "too early";
    s.pass(600);
    ASSERT_EQ(s.saver.saved.size(), 1u);
    EXPECT_EQ(s.saver.saved[0].key_id, "agent-svid-B");
    EXPECT_EQ(s.saver.saved[0].reattestable, reattestable);
    EXPECT_EQ(s.server.count("RenewAgent"), reattestable ? 0u : 1u);
    EXPECT_EQ(s.server.count("AttestAgent"), reattestable ? 1u : 0u);
    s.pass(2000);
    ASSERT_EQ(s.saver.saved.size(), 2u);
    EXPECT_EQ(s.saver.saved[1].key_id, "agent-svid-A");
  }
}

TEST(AgentKeeper, AttestsAnewWhenTheServerSaysSo) {
  for (const int reason : {1, 2, 3, 5}) {
    FakeLoop loop;
    KeeperScenario s(loop);
    s.flow->start(s.stored(kNow, kNow + 3600));
    loop.run_ready();
    s.flow->on_denied(denied(reason));
    s.flow->on_denied(denied(reason));  // a second call was refused meanwhile
    loop.run_ready();
    EXPECT_EQ(s.server.count("AttestAgent"), 1u) << reason;
    EXPECT_EQ(s.identities, 2);
  }
}

// Replicas that lag: the next one denies an agent that has just attested, with a token that is spent.
TEST(AgentKeeper, ADenialIsOverOnceTheServerTakesACall) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.flow->start(s.stored(kNow, kNow + 3600));
  loop.run_ready();
  s.server.refuse["AttestAgent"] = Error{Code::invalid_argument, "join token does not exist or has already been used"};
  s.flow->on_denied(denied(3));
  s.pass(10);
  EXPECT_EQ(s.svid_state(), HealthState::degraded);
  const size_t attempts = s.server.count("AttestAgent");
  for (int i = 0; i < 10; ++i) {  // no denial brings an attempt forward
    s.flow->on_accepted();
    s.flow->on_denied(denied(3));
  }
  loop.run_ready();
  EXPECT_EQ(s.server.count("AttestAgent"), attempts);
  s.flow->on_accepted();
  EXPECT_EQ(s.svid_state(), HealthState::ok);
  s.pass(1500);
  EXPECT_EQ(s.server.count("AttestAgent"), attempts);
  s.pass(600);
  EXPECT_EQ(s.server.count("RenewAgent"), 1u) << "at half its life, as if nothing had been";
}

// Replicas that lag, and an attestation that succeeds each time.
TEST(AgentKeeper, ADenialAfterAnAttestationIsGivenTime) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.flow->start(s.stored(kNow, kNow + 3600));
  loop.run_ready();
  for (int second = 0; second < 600; ++second) {
    s.flow->on_denied(denied(3));
    s.pass(1);
  }
  const size_t attempts = s.server.count("AttestAgent");
  EXPECT_GE(attempts, 6u);
  EXPECT_LE(attempts, 30u);
  s.flow->on_accepted();
  s.pass(300);
  EXPECT_EQ(s.server.count("AttestAgent"), attempts);
  s.flow->on_denied(denied(3));
  loop.run_ready();
  EXPECT_EQ(s.server.count("AttestAgent"), attempts + 1) << "at once, as at first";
}

// `agent evict` ends a ban: the server knows the agent no more.
TEST(AgentKeeper, AnAgentThatIsEvictedAfterItsBanAttestsAtOnce) {
  for (const bool accepted : {false, true}) {
    FakeLoop loop;
    KeeperScenario s(loop);
    s.flow->start(s.stored(kNow, kNow + 3600));
    loop.run_ready();
    s.flow->on_denied(denied(4));
    s.pass(5);
    if (accepted) s.flow->on_accepted();
    s.flow->on_denied(denied(3));
    loop.run_ready();
    EXPECT_EQ(s.server.count("AttestAgent"), 1u) << accepted;
    EXPECT_EQ(s.svid_state(), HealthState::ok);
  }
}

TEST(AgentKeeper, IgnoresRefusalsThatAreNotAboutTheAgent) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.flow->start(s.stored(kNow, kNow + 3600));
  loop.run_ready();
  for (const Error& error : {Error{Code::permission_denied, "no details"}, Error{Code::unavailable, "down"}, denied(0),
                             denied(77), Error{Code::permission_denied, "junk", {0xff, 0xff}}})
    s.flow->on_denied(error);
  loop.run_ready();
  EXPECT_EQ(s.server.count("AttestAgent"), 0u);
  EXPECT_EQ(s.svid_state(), HealthState::ok);
}

TEST(AgentKeeper, ABannedAgentKeepsWhatItHasSaysSoAndAsksRarely) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.flow->start(s.stored(kNow, kNow + 360));
  loop.run_ready();
  s.server.refuse["RenewAgent"] = s.server.refuse["AttestAgent"] = denied(4);
  for (int i = 0; i < 10; i++) s.flow->on_denied(denied(4));
  s.pass(3600);
  EXPECT_NE(s.svid_health().find("banned"), std::string::npos) << s.svid_health();
  EXPECT_LE(s.server.count("RenewAgent") + s.server.count("AttestAgent"), 8u);
  EXPECT_TRUE(s.flow->svid().has_value());
  s.server.refuse.clear();  // the ban is lifted
  s.pass(700);
  EXPECT_EQ(s.svid_state(), HealthState::ok);
}

TEST(AgentKeeper, SurvivesAnOutageLongerThanItsSvid) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.flow->start(s.stored(kNow, kNow + 600));
  loop.run_ready();
  s.server.unreachable = true;
  s.pass(1200);
  EXPECT_EQ(s.svid_state(), HealthState::degraded);
  EXPECT_NE(s.svid_health().find("expired"), std::string::npos);
  EXPECT_TRUE(s.flow->svid().has_value()) << "never deleted";
  s.server.unreachable = false;
  s.pass(70);
  EXPECT_EQ(s.server.count("AttestAgent"), 1u);
  EXPECT_EQ(s.svid_state(), HealthState::ok);
}

TEST(AgentKeeper, UsesANewSvidThatAFullDiskCouldNotTake) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.saver.full = true;
  s.flow->start({});
  loop.run_ready();
  EXPECT_EQ(s.identities, 1);
}

TEST(AgentKeeper, TriesAgainAfterAFailedAttestationForEver) {
  FakeLoop loop;
  KeeperScenario s(loop);
  s.server.refuse["AttestAgent"] = {Code::invalid_argument,
                                    "failed to attest: join token does not exist or has already been used"};
  s.flow->start({});
  s.pass(1200);
  EXPECT_GE(s.server.count("AttestAgent"), 20u);
  EXPECT_LE(s.server.count("AttestAgent"), 40u);
  s.server.refuse.clear();
  s.pass(70);
  EXPECT_EQ(s.identities, 1);
}

TEST(AgentKeeper, RenewsOnceWhenItsAuthorityIsTainted) {
  for (const bool other : {true, false}) {
    FakeLoop loop;
    KeeperScenario s(loop);
    s.flow->start({});
    loop.run_ready();
    const Bytes root = s.server.root.certificate.subject_key_id;
    const auto tainted = [&root](const Bytes& id) { return id == root; };
    if (other) {
      s.server.root = make_root("next", KeyType::ec_p256, 9);
      s.server.bundle.x509_authorities.push_back({s.server.root.certificate.der, false});
      s.trust.set_bundle(s.server.bundle);
    }
    for (int sync = 0; sync < 3; sync++) {
      s.flow->on_taint(tainted);
      s.pass(5);
    }
    EXPECT_EQ(s.server.count("RenewAgent"), 1u) << other;
    EXPECT_EQ(s.identities, 2) << other;
  }
}

TEST(AgentKeeper, AClockThatIsAheadDoesNotMakeItRenewAgainAndAgain) {
  for (const int64_t ahead : {1800, 36'000}) {
    FakeLoop loop;
    KeeperScenario s(loop);
    s.server.now = s.clock->now() - ahead;
    s.flow->start({});
    loop.run_ready();
    for (int second = 0; second < 3600; second++) {
      s.clock->advance_ms(1000);
      s.server.now = s.clock->now() - ahead;
      loop.advance(1000);
    }
    const size_t calls = s.server.count("RenewAgent") + s.server.count("AttestAgent");
    // what has expired by our clock when it comes is no use: then it asks once a minute, as after any failure
    EXPECT_LE(calls, ahead < 3600 ? 4u : 75u) << ahead;
    EXPECT_GE(calls, 1u) << ahead;
  }
}

TEST(AgentKeeper, MayDieAtEachOfItsSteps) {
  EXPECT_GT(destroy_at_every_step(
                [](FakeLoop& loop) {
                  auto s = std::make_unique<KeeperScenario>(loop);
                  s->flow->start({});
                  return s;
                },
                60),
            12u);
}

TEST(RenewalTime, IsHalfTheLifeWithinATenthAndTheSameForTheSameName) {
  for (int i = 0; i < 1000; i++) {
    const std::string name = "entry-" + std::to_string(i);
    const int64_t at = agent::renewal_time_ms(name, 1000, 4600);
    EXPECT_GE(at, 1000'000 + 1620'000);
    EXPECT_LE(at, 1000'000 + 1980'000);
    EXPECT_EQ(at, agent::renewal_time_ms(name, 1000, 4600));
  }
}

TEST(RenewalTime, SpreadsNamesOverTheWholeWindow) {
  int early = 0;
  for (int i = 0; i < 1000; i++) early += agent::phase_of("entry-" + std::to_string(i)) < 0 ? 1 : 0;
  EXPECT_GT(early, 400);
  EXPECT_LT(early, 600);
}

}  // namespace
}  // namespace limpet::test
