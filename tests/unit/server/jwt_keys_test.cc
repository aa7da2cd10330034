// SPDX-License-Identifier: Apache-2.0
// The JWT keys: when they are made and take over, what a restart finds, what a full disk does, dying at any moment.
#include "server/jwt_keys.h"

#include "loop/destroy_at_every_step.h"
#include "server_rig.h"

namespace limpet::server::test {
namespace {

struct JwtRig : ServerRig {
  JwtRig() { EXPECT_TRUE(start()); }
  [[nodiscard]] const JwtKeys& jwt() const { return *core->jwt(); }
  [[nodiscard]] std::vector<std::string> published() const {
    std::vector<std::string> ids;
    for (const JwtAuthority& key : core->bundles().own()->jwt_authorities) ids.push_back(key.key_id);
    return ids;
  }
  struct Waiter {
    void on_done(Result<SignedJwt> r) { result = std::move(r); }
    Pending<SignedJwt> pending;
    std::optional<Result<SignedJwt>> result;
  };
  Result<SignedJwt> sign(int64_t ttl = 300) {
    Waiter waiter;
    core->jwt()->sign({*SpiffeId::parse("spiffe://example.org/web"), {"aud"}, ttl, false},
                      waiter.pending.then<&Waiter::on_done>(&waiter));
    run();
    return waiter.result ? *waiter.result : fail(Code::internal, "not answered");
  }
};

TEST(JwtKeys, TheFirstKeyIsPublishedAndActiveAtTheStart) {
  JwtRig rig;
  ASSERT_NE(rig.jwt().current(), nullptr);
  EXPECT_EQ(rig.jwt().current()->slot_id, "A");
  EXPECT_EQ(rig.jwt().current()->not_after, kStart + 24 * 3600);
  EXPECT_EQ(rig.published(), std::vector{rig.jwt().current()->key_id});
  EXPECT_EQ(rig.jwt().other(), nullptr);
  EXPECT_TRUE(rig.keys.keys.contains("JWT-Signer-A"));
}

TEST(JwtKeys, ADaysKeyIsPreparedAfterHalfAndReplacedAfterFiveSixths) {
  JwtRig rig;
  const std::string first = rig.jwt().current()->key_id;
  rig.pass(12 * 3600 - 60);
  EXPECT_EQ(rig.jwt().other(), nullptr);
  rig.pass(120);
  ASSERT_NE(rig.jwt().other(), nullptr);
  const std::string second = rig.jwt().other()->key_id;
  EXPECT_EQ(rig.jwt().other()->status, AuthorityStatus::prepared);
  EXPECT_EQ(rig.published(), (std::vector{first, second})) << "published before it signs";
  EXPECT_EQ(rig.jwt().current()->key_id, first);
  rig.pass(8 * 3600);
  EXPECT_EQ(rig.jwt().current()->key_id, second);
  ASSERT_NE(rig.jwt().other(), nullptr);
  EXPECT_EQ(rig.jwt().other()->key_id, first);
  EXPECT_EQ(rig.jwt().other()->status, AuthorityStatus::old);
}

TEST(JwtKeys, ATokenNeverOutlivesItsKey) {
  JwtRig rig;
  EXPECT_EQ(rig.sign()->expires_at, kStart + 300);
  EXPECT_EQ(rig.sign(1 << 30)->expires_at, rig.jwt().current()->not_after);
}

TEST(JwtKeys, ARestartFindsBothSlotsAgain) {
  JwtRig rig;
  rig.pass(13 * 3600);
  const std::string first = rig.jwt().current()->key_id, second = rig.jwt().other()->key_id;
  ASSERT_TRUE(rig.start());
  EXPECT_EQ(rig.jwt().current()->key_id, first);
  EXPECT_EQ(rig.jwt().other()->key_id, second);
  rig.pass(8 * 3600);
  ASSERT_TRUE(rig.start());
  EXPECT_EQ(rig.jwt().current()->key_id, second) << "the activation was written down";
  EXPECT_EQ(rig.published().size(), 2u);
}

TEST(JwtKeys, AKeyThatTheManagerLostIsReplaced) {
  JwtRig rig;
  const std::string lost = rig.jwt().current()->key_id;
  rig.keys.keys.erase("JWT-Signer-A");
  ASSERT_TRUE(rig.start());
  ASSERT_NE(rig.jwt().current(), nullptr);
  EXPECT_NE(rig.jwt().current()->key_id, lost);
  EXPECT_TRUE(rig.sign());
}

TEST(JwtKeys, WhileTheDiskIsFullTheOldKeySignsOn) {
  JwtRig rig;
  const std::string first = rig.jwt().current()->key_id;
  rig.disk_full = true;
  rig.pass(21 * 3600);
  EXPECT_EQ(rig.jwt().current()->key_id, first) << "a key that is not published does not sign";
  EXPECT_TRUE(rig.sign());
  rig.disk_full = false;
  rig.pass(60);
  rig.pass(60);
  EXPECT_NE(rig.jwt().current()->key_id, first);
}

TEST(JwtKeys, AnExpiredKeySignsNothing) {
  JwtRig rig;
  rig.keys.failure = "the key manager is away";
  rig.pass(25 * 3600);
  auto refused = rig.sign();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text(), "Unavailable: JWT key is not available for signing");
}

TEST(JwtKeys, AKeyThatIsAwayIsNamedInHealthUntilItSignsAgain) {
  JwtRig rig;
  const Health::Part& part = rig.health.parts().at("jwt_key");
  EXPECT_TRUE(rig.sign());
  EXPECT_EQ(part.state, HealthState::ok);
  rig.keys.sign_failure = "TPM /dev/tpmrm0: no answer within 7 s";
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(rig.sign().error().text(), "Unavailable: sign with the JWT key: TPM /dev/tpmrm0: no answer within 7 s");
    EXPECT_EQ(part.state, HealthState::degraded);
    EXPECT_EQ(part.reason,
              "the last signature with the JWT key failed: Unavailable: TPM /dev/tpmrm0: no answer within 7 s");
    rig.pass(60);  // and what looks at the keys from time to time does not overwrite it
    EXPECT_EQ(part.state, HealthState::degraded);
  }
  EXPECT_TRUE(rig.health.serving());
  rig.keys.sign_failure.clear();
  EXPECT_TRUE(rig.sign());
  EXPECT_EQ(part.state, HealthState::ok);
  EXPECT_EQ(part.reason, "");
}

// Of the two, the graver one is told, and neither outlives the key that replaces the lost one.
TEST(JwtKeys, AKeyThatWasAwayAndIsLostThenIsReplaced) {
  JwtRig rig;
  const Health::Part& part = rig.health.parts().at("jwt_key");
  rig.pass(3600);
  const std::string lost = rig.jwt().current()->key_id;
  rig.keys.sign_failure = "no answer";
  EXPECT_FALSE(rig.sign());
  rig.keys.sign_failure.clear();
  rig.keys.keys.erase("JWT-Signer-A");
  rig.keys.failure = "no room";
  EXPECT_FALSE(rig.sign());
  EXPECT_NE(part.reason.find("no room"), std::string::npos) << part.reason;
  rig.keys.failure.clear();
  rig.pass(10);
  rig.pass(1);
  EXPECT_NE(rig.jwt().current()->key_id, lost);
  EXPECT_EQ(part.state, HealthState::ok) << part.reason;
}

TEST(JwtKeys, APreparedKeyIsReplacedWhenAskedTwiceAndOnlyAPreparedOneIsActivated) {
  JwtRig rig;
  EXPECT_EQ(rig.core->jwt()->activate().error().code, Code::failed_precondition);
  struct Waiter {
    void on_done(Result<JwtSlot> r) { result = std::move(r); }
    Pending<JwtSlot> pending;
    std::optional<Result<JwtSlot>> result;
  } one, two, three;
  rig.core->jwt()->prepare(one.pending.then<&Waiter::on_done>(&one));
  rig.core->jwt()->prepare(two.pending.then<&Waiter::on_done>(&two));
  rig.run();
  ASSERT_TRUE(one.result && *one.result);
  EXPECT_EQ((*two.result).error().code, Code::unavailable);
  rig.core->jwt()->prepare(three.pending.then<&Waiter::on_done>(&three));
  rig.run();
  ASSERT_TRUE(three.result && *three.result);
  EXPECT_EQ(rig.jwt().other()->key_id, (*three.result)->key_id);
  EXPECT_TRUE(rig.core->jwt()->activate());
  EXPECT_EQ(rig.jwt().current()->key_id, (*three.result)->key_id);
  EXPECT_FALSE(rig.core->jwt()->activate());
}

TEST(JwtKeys, MayDieAtAnyMomentOfARotationOrASignature) {
  for (int steps = 0; steps < 40; ++steps) {
    JwtRig rig;
    JwtRig::Waiter waiter;
    rig.clock.advance_ms(int64_t{13} * 3600 * 1000);
    rig.loop.advance(10'000);
    rig.core->jwt()->sign({*SpiffeId::parse("spiffe://example.org/web"), {"aud"}, 300, true},
                          waiter.pending.then<&JwtRig::Waiter::on_done>(&waiter));
    for (int i = 0; i < steps && rig.step(); ++i) continue;
    rig.core.reset();
    ASSERT_TRUE(waiter.result.has_value()) << "each request ends, after " << steps << " steps";
  }
}

}  // namespace
}  // namespace limpet::server::test
