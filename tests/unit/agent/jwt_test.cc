// SPDX-License-Identifier: Apache-2.0
// The agent's JWT-SVIDs: what is asked of the server and when, what is kept, and the calls that die at any moment.
#include <gtest/gtest.h>

#include "agent/claims_struct.h"
#include "agent/jwt_issuer.h"
#include "agent/verified_tokens.h"
#include "fakes.h"
#include "loop/destroy_at_every_step.h"
#include "wire/proto_json.h"

namespace limpet::test {
namespace {

struct IssuerScenario : World {
  explicit IssuerScenario(FakeLoop& l) : World(l) {
    server.entries = {make_entry("a", "/a", {{"unix", "uid:1"}}), make_entry("b", "/b", {{"unix", "uid:1"}})};
    server.lifetime = 100;
    attested();
  }
  struct Waiter {
    Pending<std::string> pending;
    std::vector<Result<std::string>> got;
    void on_token(Result<std::string> token) { got.push_back(std::move(token)); }
  };
  void ask(Waiter& waiter, const char* audience = "aud", size_t entry = 0) {
    issuer.issue(server.entries[entry], {audience}, waiter.pending.then<&Waiter::on_token>(&waiter));
  }
  std::string token(const char* audience = "aud", size_t entry = 0) {
    Waiter waiter;
    ask(waiter, audience, entry);
    loop.run_ready();
    if (waiter.got.size() != 1) return "nothing";
    return waiter.got[0] ? *waiter.got[0] : waiter.got[0].error().text();
  }
  agent::JwtIssuer issuer{loop, *clock, log, link, {2, 5'000}};
};

TEST(JwtIssuer, KeepsATokenUntilHalfItsLifeIsOver) {
  FakeLoop loop;
  IssuerScenario s(loop);
  const std::string first = s.token();
  EXPECT_TRUE(first.starts_with("eyJ")) << first;
  s.pass(49);
  EXPECT_EQ(s.token(), first);
  EXPECT_EQ(s.server.count("NewJWTSVID"), 1u);
  s.pass(1);
  EXPECT_NE(s.token(), first);
  EXPECT_EQ(s.server.count("NewJWTSVID"), 2u);
}

TEST(JwtIssuer, ThoseWhoWantTheSameShareOneCall) {
  FakeLoop loop;
  IssuerScenario s(loop);
  IssuerScenario::Waiter one, two, other;
  s.ask(one);
  s.ask(two);
  s.ask(other, "another");
  loop.run_ready();
  EXPECT_EQ(s.server.count("NewJWTSVID"), 2u);
  EXPECT_EQ(*one.got.at(0), *two.got.at(0));
  EXPECT_NE(*one.got.at(0), *other.got.at(0));
}

TEST(JwtIssuer, AnEntryWithJtiIsNeverServedFromTheCache) {
  FakeLoop loop;
  IssuerScenario s(loop);
  s.server.entries[0].jwt_svid_include_jti = true;
  IssuerScenario::Waiter one, two;
  s.ask(one);
  s.ask(two);
  loop.run_ready();
  EXPECT_NE(*one.got.at(0), *two.got.at(0));
  EXPECT_EQ(s.issuer.cached(), 0u);
}

TEST(JwtIssuer, GivesTheKeptTokenWhileTheServerIsGoneRefusesOrIsSlowAndAnErrorAfterIt) {
  for (const std::string how : {"gone", "refuses", "slow"}) {
    FakeLoop loop;
    IssuerScenario s(loop);
    const std::string first = s.token();
    s.pass(60);
    if (how == "gone") s.server.unreachable = true;
    if (how == "refuses") s.server.refuse["NewJWTSVID"] = {Code::internal, "no"};
    if (how == "slow") s.server.silent = true;
    IssuerScenario::Waiter waiter;
    s.ask(waiter);
    loop.run_ready();
    if (how == "slow") {
      loop.advance(4'999);
      EXPECT_TRUE(waiter.got.empty()) << "the server gets its time";
      loop.advance(1);
    }
    ASSERT_EQ(waiter.got.size(), 1u) << how;
    EXPECT_EQ(*waiter.got[0], first) << how;
    s.pass(45);
    IssuerScenario::Waiter late;
    s.ask(late);
    loop.advance(30'000);
    ASSERT_EQ(late.got.size(), 1u) << how;
    EXPECT_FALSE(late.got[0].has_value()) << how;
  }
}

TEST(JwtIssuer, ForgetsTheTokenUsedLongestAgo) {
  FakeLoop loop;
  IssuerScenario s(loop);
  const std::string one = s.token("1");
  const std::string two = s.token("2");
  EXPECT_EQ(s.token("1"), one);
  (void)s.token("3");
  EXPECT_EQ(s.issuer.cached(), 2u);
  EXPECT_EQ(s.token("1"), one);
  EXPECT_NE(s.token("2"), two);
}

TEST(JwtIssuer, DropsWhatATaintedKeySigned) {
  FakeLoop loop;
  IssuerScenario s(loop);
  const std::string old = s.token("1");
  s.server.jwt_key = 301;
  const std::string kept = s.token("2");
  Bundle bundle = s.server.bundle;
  for (const int key : {300, 301})
    bundle.jwt_authorities.push_back({"jwt-" + std::to_string(key), Bytes{1}, 0, key == 300});
  EXPECT_EQ(s.issuer.forget_tainted(bundle), 1u);
  EXPECT_EQ(s.token("2"), kept);
  EXPECT_NE(s.token("1"), old);
}

TEST(JwtIssuer, DoesNotPassOnATokenOfSomebodyElse) {
  FakeLoop loop;
  IssuerScenario s(loop);
  s.server.jwt_subject = "spiffe://example.org/root";
  EXPECT_EQ(s.token(),
            "Internal: the server signed a JWT-SVID for spiffe://example.org/root, not for "
            "spiffe://example.org/a");
  EXPECT_EQ(s.issuer.cached(), 0u);
}

struct DyingWaiter : IssuerScenario {
  explicit DyingWaiter(FakeLoop& l) : IssuerScenario(l), flow(std::make_unique<Waiter>()) { ask(*flow); }
  std::unique_ptr<Waiter> flow;
};
struct DyingIssuer : World {
  explicit DyingIssuer(FakeLoop& l) : World(l) {
    server.entries = {make_entry("a", "/a", {{"unix", "uid:1"}})};
    attested();
    flow = std::make_unique<agent::JwtIssuer>(loop, *clock, log, link, agent::JwtIssuerOptions());
    flow->issue(server.entries[0], {"aud"}, waiter.pending.then<&IssuerScenario::Waiter::on_token>(&waiter));
  }
  IssuerScenario::Waiter waiter;
  std::unique_ptr<agent::JwtIssuer> flow;
};

TEST(JwtIssuer, MayDieAtEachOfItsStepsAndSoMayTheOneWhoWaits) {
  EXPECT_GT(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<DyingWaiter>(loop); }), 2u);
  EXPECT_GT(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<DyingIssuer>(loop); }), 2u);
}

TEST(VerifiedTokens, RemembersTheLastOnesAndNoOther) {
  agent::VerifiedTokens verified;
  const auto name = [](size_t i) { return sha256(as_bytes(std::to_string(i))); };
  for (size_t i = 0; i <= agent::VerifiedTokens::kKept; i++) verified.add(name(i));
  EXPECT_FALSE(verified.contains(name(0)));
  EXPECT_TRUE(verified.contains(name(1)));
  JwtSvidToken token;
  token.signing_input = "a.b";
  token.signature = {1, 2};
  const Bytes first = agent::VerifiedTokens::name(token, Bytes{7});
  EXPECT_NE(agent::VerifiedTokens::name(token, Bytes{8}), first);
  token.signature = {1, 3};
  EXPECT_NE(agent::VerifiedTokens::name(token, Bytes{7}), first);
}

std::string claims(std::string_view json, const std::vector<std::string>* only = nullptr) {
  wire::Message<google_protobuf_Struct> message;
  agent::write_claims(*message, json, only);
  const auto again = wire::Message<google_protobuf_Struct>::decode(*message.encode());
  return again ? wire::to_json(*again) : again.error().text();
}

TEST(Claims, KeepEveryShapeAndAudIsAList) {
  EXPECT_EQ(claims(R"({"b":{"x":[1,"",null,true,{}]},"aud":"a","a":-1.5})"),
            R"({"a":-1.5,"aud":["a"],"b":{"x":[1,"",null,true,{}]}})");
  EXPECT_EQ(claims("{}"), "{}");
  const std::vector<std::string> only = {"aud", "b"};
  EXPECT_EQ(claims(R"({"c":1,"b":2,"aud":["x","y"]})", &only), R"({"aud":["x","y"],"b":2})");
}

}  // namespace
}  // namespace limpet::test
