// SPDX-License-Identifier: Apache-2.0
// Envoy's conversation with the agent: questions, acknowledgements, refusals, changes, and dying at any moment.
#include <gtest/gtest.h>

#include "agent/jwt_issuer.h"
#include "agent/sds_api.h"
#include "agent/verified_tokens.h"
#include "fake_call.h"
#include "loop/destroy_at_every_step.h"

namespace limpet::test {
namespace {

using Request = envoy_service_secret_v3_DiscoveryRequest;
using Response = envoy_service_secret_v3_DiscoveryResponse;

struct Question {
  std::vector<std::string> names;
  std::string version = "";
  std::string nonce = "";
  bool refusal = false;
};

Bytes bytes_of(const Question& question) {
  wire::Message<Request> message;
  wire::write_strings(message->resource_names, message->resource_names_count, question.names);
  wire::set_string(message->version_info, question.version);
  wire::set_string(message->response_nonce, question.nonce);
  message->has_error_detail = question.refusal;
  if (question.refusal) wire::set_string(message->error_detail.message, "no good");
  return *message.encode();
}

struct SdsScenario : World, agent::WorkloadApiClient {
  explicit SdsScenario(FakeLoop& l, const std::string& method = "StreamSecrets")
      : World(l), call(l, method, agent::SdsApi::kName) {
    call.headers = {};
    call.request = std::optional(bytes_of({{"default"}}));
    cache.put_bundle(server.bundle);
    cache.put_entry(make_entry("a", "/a", {{"unix", "uid:1"}}));
    sign("a", kNow + 3600);
  }
  void sign(const char* id, int64_t not_after) {
    auto svid = std::make_unique<agent::CachedSvid>();
    svid->chain = {0x30, 0x02, 0x05, 0x00};
    svid->key = SecretBytes(Bytes{4, 5});
    svid->not_after = not_after;
    cache.put_svid(*cache.find(id), std::move(svid));
    audiences.refresh();
  }
  void start() {
    const agent::WorkloadApiParts workload{loop, log,      audiences, attestors, *this,       *clock,
                                           jwt,  verified, {},        false,     limits.get()};
    api = std::make_unique<agent::SdsApi>(agent::SdsParts{workload, *clock, cache, "example.org", {}});
    flow = api->open(call);
    if (flow != nullptr) flow->start();
  }
  void run() {
    start();
    loop.run_ready();
  }
  void say(Question question) {
    call.say(bytes_of(question));
    loop.run_ready();
  }
  wire::Message<Response> answer(size_t i) { return std::move(*wire::Message<Response>::decode(call.sent.at(i))); }
  std::string version(size_t i) { return std::string(wire::view(answer(i)->version_info)); }
  std::string nonce(size_t i) { return std::string(wire::view(answer(i)->nonce)); }
  void acknowledge(size_t i) { say({{"default"}, version(i), nonce(i)}); }
  void refuse(size_t i) { say({{"default"}, i == 0 ? "" : version(i - 1), nonce(i), true}); }
  void on_identity_wanted() override { wanted++; }
  [[nodiscard]] bool knows_entries() const override { return known; }

  FakeWorkloadAttestor unix_attestor{loop, "unix", std::vector<std::string>{"uid:1"}};
  std::vector<WorkloadAttestor*> attestors{&unix_attestor};
  agent::Audiences audiences{loop, *clock, cache, "example.org"};
  std::unique_ptr<agent::CallLimits> limits;
  agent::JwtIssuer jwt{loop, *clock, log, link, {2, 5'000}};
  agent::VerifiedTokens verified;
  int wanted = 0;
  bool known = true;
  FakeCall call;
  std::unique_ptr<agent::SdsApi> api;
  std::unique_ptr<wire::ServerFlow> flow;
};

TEST(SdsCall, AnswersOnceAndKeepsQuietWhenItIsAcknowledged) {
  FakeLoop loop;
  SdsScenario s(loop);
  s.run();
  ASSERT_EQ(s.call.sent.size(), 1u) << s.call.end();
  EXPECT_TRUE(s.call.was_secret);
  s.acknowledge(0);
  EXPECT_EQ(s.call.sent.size(), 1u);
  s.say({{"ROOTCA"}, s.version(0), s.nonce(0)});
  EXPECT_EQ(s.call.sent.size(), 2u) << "other names are another question";
}

TEST(SdsCall, PushesAChange) {
  FakeLoop loop;
  SdsScenario s(loop);
  s.run();
  s.acknowledge(0);
  s.sign("a", kNow + 7200);
  loop.run_ready();
  ASSERT_EQ(s.call.sent.size(), 2u);
  EXPECT_NE(s.version(0), s.version(1));
  EXPECT_NE(s.nonce(0), s.nonce(1));
}

// The first identity waits for its SVID: nobody else gets its name meanwhile, and what was sent stays.
TEST(SdsCall, TheDefaultNameWaitsForTheFirstIdentity) {
  FakeLoop loop;
  SdsScenario s(loop);
  s.cache.put_entry(make_entry("0", "/first", {{"unix", "uid:1"}}));
  s.audiences.refresh();
  s.run();
  EXPECT_TRUE(s.call.sent.empty());
  s.sign("0", kNow + 3600);
  loop.run_ready();
  loop.advance(agent::WorkloadApi::kWaitForAllMs);
  loop.run_ready();
  ASSERT_EQ(s.call.sent.size(), 1u) << s.call.end();
  s.acknowledge(0);
  s.sign("0", kNow - 1);  // it expired in an outage
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 1u);

  SdsScenario never(loop);
  never.cache.put_entry(make_entry("0", "/first", {{"unix", "uid:1"}}));
  never.audiences.refresh();
  never.run();
  loop.advance(agent::WorkloadApi::kWaitForAnyMs);
  loop.run_ready();
  EXPECT_TRUE(never.call.sent.empty());
  EXPECT_TRUE(never.call.end().starts_with("Unavailable: ")) << never.call.end();
}

TEST(SdsCall, PassesOverAnAnswerToAnOlderResponse) {
  FakeLoop loop;
  SdsScenario s(loop);
  s.run();
  s.say({{"ROOTCA"}, "", "stale"});
  EXPECT_EQ(s.call.sent.size(), 1u);
}

TEST(SdsCall, GivesARefusedResponseAgainButDoesNotHurry) {
  FakeLoop loop;
  SdsScenario s(loop);
  s.run();
  s.refuse(0);
  ASSERT_EQ(s.call.sent.size(), 2u) << "the first time at once";
  s.refuse(1);
  EXPECT_EQ(s.call.sent.size(), 2u);
  loop.advance(agent::SdsApi::kRefusedPauseMs);
  EXPECT_EQ(s.call.sent.size(), 3u);
}

TEST(SdsCall, EndsWithTheClientsHalf) {
  FakeLoop loop;
  SdsScenario s(loop);
  s.run();
  s.call.say(std::nullopt);
  loop.run_ready();
  EXPECT_EQ(s.call.end(), "OK");
  s.sign("a", kNow + 7200);
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 1u);
}

TEST(SdsCall, FetchSecretsAnswersOnce) {
  FakeLoop loop;
  SdsScenario s(loop, "FetchSecrets");
  s.run();
  EXPECT_EQ(s.call.sent.size(), 1u);
  EXPECT_EQ(s.call.end(), "OK");
  SdsScenario none(loop, "FetchSecrets");
  none.call.request = std::optional<Bytes>();
  none.run();
  EXPECT_EQ(none.call.end(), "Internal: unary call without a request");
}

TEST(SdsCall, IsCountedByItsOwnRateLimit) {
  for (const char* method : {"StreamSecrets", "FetchSecrets"}) {
    FakeLoop loop;
    SdsScenario s(loop, method);
    const bool stream = method == std::string("StreamSecrets");
    s.limits = std::make_unique<agent::CallLimits>(
        loop, stream ? CallRates{.stream_secrets = 1} : CallRates{.fetch_secrets = 1});
    s.call.peer_.credentials->pid = ::getppid();
    s.call.peer_.process_start = wire::process_start_time(::getppid());
    ASSERT_TRUE(s.limits->admit(s.call, {{"unix", "uid:1"}}));
    s.run();
    EXPECT_EQ(s.call.end(),
              std::string("Unavailable: rate limit exceeded for /") + agent::SdsApi::kName + "/" + method);
  }
}

TEST(SdsCall, MayDieAtEachOfItsSteps) {
  const auto dies = [](const char* method, bool waits, bool refuses) {
    return destroy_at_every_step([=](FakeLoop& loop) {
      auto s = std::make_unique<SdsScenario>(loop, method);
      if (waits) s->cache.put_entry(make_entry("b", "/b", {{"unix", "uid:1"}}));
      s->start();
      if (!refuses) return s;
      loop.run_ready();
      const Bytes refusal = bytes_of({{"default"}, "", s->nonce(0), true});
      s->call.say(refusal);
      return s;
    });
  };
  EXPECT_GE(dies("StreamSecrets", false, false), 3u);
  EXPECT_GE(dies("StreamSecrets", true, false), 4u);
  EXPECT_GE(dies("StreamSecrets", false, true), 2u);
  EXPECT_GE(dies("FetchSecrets", true, false), 4u);
}

}  // namespace
}  // namespace limpet::test
