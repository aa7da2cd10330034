// SPDX-License-Identifier: Apache-2.0
// The Workload API's flows: the security header, attestation, what is said and when, and dying at any moment.
#include <gtest/gtest.h>

#include "agent/jwt_issuer.h"
#include "agent/verified_tokens.h"
#include "agent/workload_api.h"
#include "fake_call.h"
#include "loop/destroy_at_every_step.h"
#include "proto/workload.pb.h"

namespace limpet::test {
namespace {

struct ApiScenario : World, agent::WorkloadApiClient {
  explicit ApiScenario(FakeLoop& l, const std::string& method = "FetchX509SVID") : World(l), call(l, method) {
    cache.put_bundle(server.bundle);
    cache.put_entry(make_entry("a", "/a", {{"unix", "uid:1"}}));
    sign("a", kNow + 3600);
  }
  void sign(const char* id, int64_t not_after) {
    auto svid = std::make_unique<agent::CachedSvid>();
    svid->chain = Bytes(100, static_cast<uint8_t>(not_after));
    svid->key = SecretBytes(Bytes{4, 5});
    svid->not_before = kNow;
    svid->not_after = not_after;
    cache.put_svid(*cache.find(id), std::move(svid));
    audiences.refresh();
  }
  void start(bool unauthenticated = false) {
    api = std::make_unique<agent::WorkloadApi>(agent::WorkloadApiParts{
        loop, log, audiences, attestors, *this, *clock, jwt, verified, {"sub"}, unauthenticated});
    flow = api->open(call);
    if (flow != nullptr) flow->start();
  }
  size_t svids(size_t i) { return (*wire::Message<X509SVIDResponse>::decode(call.sent.at(i)))->svids_count; }
  void on_identity_wanted() override { wanted++; }
  [[nodiscard]] bool knows_entries() const override { return known; }

  FakeWorkloadAttestor unix_attestor{loop, "unix", std::vector<std::string>{"uid:1"}};
  FakeWorkloadAttestor broken{loop, "broken", fail(Code::internal, "broken")};
  std::vector<WorkloadAttestor*> attestors{&unix_attestor, &broken};
  agent::Audiences audiences{loop, *clock, cache, "example.org"};
  agent::JwtIssuer jwt{loop, *clock, log, link, {2, 5'000}};
  agent::VerifiedTokens verified;
  int wanted = 0;
  bool known = true;
  FakeCall call;
  std::unique_ptr<agent::WorkloadApi> api;
  std::unique_ptr<wire::ServerFlow> flow;
};

// ---- rate limits ----
struct LimitedScenario : ApiScenario {
  LimitedScenario(FakeLoop& l, agent::CallLimits& shared, std::vector<std::string> selectors,
                  const std::string& method = "FetchX509SVID")
      : ApiScenario(l, method), limits(shared) {
    unix_attestor.answer = std::move(selectors);
    call.peer_.credentials->pid = ::getppid();  // the agent's own process is not limited
    call.peer_.process_start = wire::process_start_time(::getppid());
  }
  // The end of one call, or "" when it was answered.
  std::string run() {
    api = std::make_unique<agent::WorkloadApi>(agent::WorkloadApiParts{
        loop, log, audiences, attestors, *this, *clock, jwt, verified, {"sub"}, false, &limits});
    flow = api->open(call);
    flow->start();
    loop.run_ready();
    return call.end();
  }
  agent::CallLimits& limits;
};

TEST(CallLimits, CountEachSetOfSelectorsAndEachMethodByItself) {
  FakeLoop loop;
  agent::CallLimits limits(loop, {.fetch_x509_svid = 2});
  const auto one = [&](std::vector<std::string> selectors, const char* method = "FetchX509SVID") {
    return LimitedScenario(loop, limits, std::move(selectors), method).run();
  };
  const std::string exceeded = "Unavailable: rate limit exceeded for /SpiffeWorkloadAPI/FetchX509SVID";
  EXPECT_EQ(one({"uid:1", "gid:1"}), "");
  EXPECT_EQ(one({"gid:1", "uid:1"}), "") << "the order does not matter";
  EXPECT_EQ(one({"uid:1", "gid:1"}), exceeded);
  EXPECT_EQ(one({"uid:1"}), "") << "another caller";
  EXPECT_EQ(one({"uid:1", "gid:1"}, "FetchX509Bundles"), "") << "another method, without a limit";
  loop.advance(500);
  EXPECT_EQ(one({"uid:1", "gid:1"}), "") << "one more each half a second";
  EXPECT_EQ(one({"uid:1", "gid:1"}), exceeded);
  loop.advance(600'000);
  EXPECT_EQ(one({"uid:1", "gid:1"}), "");
  EXPECT_EQ(one({"uid:1", "gid:1"}), "");
  EXPECT_EQ(one({"uid:1", "gid:1"}), exceeded) << "the burst is the rate";
}

TEST(CallLimits, CallersWithoutSelectorsShareOneBucket) {
  FakeLoop loop;
  agent::CallLimits limits(loop, {.fetch_x509_svid = 1});
  EXPECT_EQ(LimitedScenario(loop, limits, {}).run(), "PermissionDenied: no identity issued");
  EXPECT_EQ(LimitedScenario(loop, limits, {}).run(),
            "Unavailable: rate limit exceeded for /SpiffeWorkloadAPI/FetchX509SVID")
      << "before the lookup";
}

TEST(CallLimits, ComeAfterTheHeaderAndTheAttestation) {
  FakeLoop loop;
  agent::CallLimits limits(loop, {.fetch_x509_svid = 1});
  LimitedScenario without(loop, limits, {"uid:1"});
  without.call.headers = {};
  EXPECT_EQ(without.run(), "InvalidArgument: security header missing from request");
  LimitedScenario gone(loop, limits, {"uid:1"});
  gone.call.peer_.process_start++;
  EXPECT_EQ(gone.run(), "Unavailable: workload attestation failed");
  EXPECT_EQ(LimitedScenario(loop, limits, {"uid:1"}).run(), "") << "neither took a token";
}

TEST(CallLimits, NeverRefuseTheAgentItself) {
  FakeLoop loop;
  agent::CallLimits limits(loop, {.fetch_x509_svid = 1});
  for (int i = 0; i < 3; i++) {
    LimitedScenario own(loop, limits, {"uid:1"});
    own.call.peer_.credentials->pid = ::getpid();
    own.call.peer_.process_start = wire::process_start_time(::getpid());
    EXPECT_EQ(own.run(), "");
  }
}

TEST(CallLimits, AreBoundedInMemory) {
  FakeLoop loop;
  agent::CallLimits limits(loop, {.fetch_x509_svid = 1});
  FakeCall call(loop, "FetchX509SVID");
  call.peer_.credentials->pid = ::getppid();
  size_t refused = 0;
  for (size_t i = 0; i < agent::CallLimits::kMostCallers + 3; i++)
    refused += limits.admit(call, {{"unix", "uid:" + std::to_string(i)}}) ? 0 : 1;
  EXPECT_EQ(refused, 2u) << "those beyond share one bucket";
}

struct HeaderCase {
  const char* name;
  wire::Metadata headers;
  bool good;
};
class SecurityHeader : public ::testing::TestWithParam<HeaderCase> {};

TEST_P(SecurityHeader, IsCheckedBeforeEverythingOnEveryMethod) {
  for (const char* method : {"FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID",
                             "FetchWITSVID", "FetchWITBundles"}) {
    FakeLoop loop;
    ApiScenario s(loop, method);
    s.call.headers = GetParam().headers;
    s.start();
    loop.run_ready();
    const std::string refusal = "InvalidArgument: security header missing from request";
    EXPECT_EQ(s.call.end() == refusal, !GetParam().good) << method;
    EXPECT_TRUE(GetParam().good || s.unix_attestor.asked_pid == 0) << "not even attested";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Headers, SecurityHeader,
    ::testing::Values(HeaderCase{"None", {}, false}, HeaderCase{"Empty", {{"workload.spiffe.io", ""}}, false},
                      HeaderCase{"Capital", {{"workload.spiffe.io", "TRUE"}}, false},
                      HeaderCase{"Twice", {{"workload.spiffe.io", "true"}, {"workload.spiffe.io", "true"}}, false},
                      HeaderCase{"Both", {{"workload.spiffe.io", "true"}, {"workload.spiffe.io", "false"}}, false},
                      HeaderCase{"Another", {{"workload.spiffe", "true"}}, false},
                      HeaderCase{"Right", {{"user-agent", "x"}, {"workload.spiffe.io", "true"}}, true}),
    [](const auto& param) { return param.param.name; });

TEST(WorkloadApi, AnswersUnimplementedForProfilesItDoesNotOffer) {
  const std::pair<const char*, const char*> cases[] = {
      {"FetchWITSVID", "Unimplemented: fetching WIT-SVIDs is not implemented"},
      {"FetchWITBundles", "Unimplemented: fetching WIT bundles is not implemented"}};
  for (const auto& [method, text] : cases) {
    FakeLoop loop;
    ApiScenario s(loop, method);
    s.start();
    loop.run_ready();
    EXPECT_EQ(s.call.end(), text);
  }
  FakeLoop loop;
  ApiScenario s(loop, "Nonsense");
  s.start();
  EXPECT_EQ(s.flow, nullptr);
}

TEST(FetchX509Svid, AnswersAtOnceAndOneFailedAttestorDoesNotMatter) {
  FakeLoop loop;
  ApiScenario s(loop);
  s.start();
  loop.run_ready();
  ASSERT_EQ(s.call.sent.size(), 1u) << s.call.end();
  EXPECT_EQ(s.svids(0), 1u);
  EXPECT_TRUE(s.call.was_secret);
  EXPECT_EQ(s.unix_attestor.asked_pid, ::getpid());
}

TEST(FetchX509Svid, PushesEachUpdateOfItsOwnIdentitiesOnly) {
  FakeLoop loop;
  ApiScenario s(loop);
  s.start();
  loop.run_ready();
  s.cache.put_entry(make_entry("b", "/b", {{"unix", "uid:2"}}));
  s.sign("b", kNow + 50);
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 1u);
  s.sign("a", kNow + 7200);
  loop.run_ready();
  ASSERT_EQ(s.call.sent.size(), 2u);
  EXPECT_NE(s.call.sent[0], s.call.sent[1]);
}

TEST(FetchX509Svid, SendsTheLatestOnlyWhenSeveralUpdatesComeWhileItSends) {
  FakeLoop loop;
  ApiScenario s(loop);
  s.start();
  while (s.call.sent.empty()) loop.run_one();
  for (int i = 1; i <= 3; i++) s.sign("a", kNow + 7200 + i);
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 2u);
}

TEST(FetchX509Svid, IsDeniedWithoutAnIdentityAtTheStartAndLater) {
  FakeLoop loop;
  ApiScenario s(loop);
  s.unix_attestor.answer = std::vector<std::string>{"uid:9"};
  s.start();
  loop.run_ready();
  EXPECT_EQ(s.call.end(), "PermissionDenied: no identity issued");

  ApiScenario later(loop);
  later.start();
  loop.run_ready();
  EXPECT_EQ(later.call.end(), "");
  later.cache.remove_entry("a");
  later.audiences.refresh();
  loop.run_ready();
  EXPECT_EQ(later.call.end(), "PermissionDenied: no identity issued");
  EXPECT_EQ(later.call.ended.size(), 1u);
}

TEST(FetchX509Svid, WaitsForANewEntrysSvidRatherThanDeny) {
  FakeLoop loop;
  ApiScenario s(loop);
  s.cache.drop_svid(*s.cache.find("a"));
  s.start();
  loop.advance(3000);
  EXPECT_TRUE(s.call.sent.empty());
  EXPECT_EQ(s.call.end(), "");
  EXPECT_GE(s.wanted, 1);
  s.sign("a", kNow + 100);
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 1u);
}

TEST(FetchX509Svid, GivesWhatItHasWhenTheRestTakesLong) {
  FakeLoop loop;
  ApiScenario s(loop);
  s.cache.put_entry(make_entry("b", "/b", {{"unix", "uid:1"}}));
  s.start();
  loop.advance(1000);
  EXPECT_TRUE(s.call.sent.empty());
  loop.advance(agent::WorkloadApi::kWaitForAllMs);
  ASSERT_EQ(s.call.sent.size(), 1u);
  EXPECT_EQ(s.svids(0), 1u);
  s.sign("b", kNow + 100);
  loop.run_ready();
  ASSERT_EQ(s.call.sent.size(), 2u);
  EXPECT_EQ(s.svids(1), 2u);
}

TEST(FetchX509Svid, EndsUnavailableWhenNothingComes) {
  FakeLoop loop;
  ApiScenario s(loop);
  s.cache.drop_svid(*s.cache.find("a"));
  s.start();
  loop.advance(agent::WorkloadApi::kWaitForAnyMs);
  EXPECT_TRUE(s.call.end().starts_with("Unavailable: ")) << s.call.end();

  ApiScenario fresh(loop);
  fresh.cache.remove_entry("a");
  fresh.known = false;
  fresh.start();
  loop.advance(agent::WorkloadApi::kWaitForAnyMs);
  EXPECT_EQ(fresh.call.end(), "Unavailable: the agent has not reached its server yet");
}

TEST(FetchX509Svid, IsRefusedWhenTheProcessIsGoneOrAnother) {
  FakeLoop loop;
  ApiScenario s(loop);
  s.call.peer_.process_start++;
  s.start();
  loop.run_ready();
  EXPECT_EQ(s.call.end(), "Unavailable: workload attestation failed");
}

TEST(FetchX509Svid, DoesNotWaitForEverForAnAttestor) {
  FakeLoop loop;
  ApiScenario s(loop);
  s.broken.silent = true;
  s.start();
  loop.run_ready();
  EXPECT_TRUE(s.call.sent.empty());
  loop.advance(agent::WorkloadAttest::kDeadlineMs);
  EXPECT_EQ(s.call.sent.size(), 1u) << "with what the others said";
}

TEST(FetchX509Bundles, SuppressesByteIdenticalUpdates) {
  FakeLoop loop;
  ApiScenario s(loop, "FetchX509Bundles");
  s.start();
  loop.run_ready();
  ASSERT_EQ(s.call.sent.size(), 1u);
  s.sign("a", kNow + 7200);
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 1u);
  Bundle bundle = s.server.bundle;
  bundle.x509_authorities.push_back({make_root("next", KeyType::ec_p256, 9).certificate.der, false});
  s.cache.put_bundle(bundle);
  s.audiences.refresh();
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 2u);
}

TEST(FetchX509Bundles, GivesTheOwnBundleToStrangersOnlyWhenAllowed) {
  for (const bool allowed : {false, true}) {
    FakeLoop loop;
    ApiScenario s(loop, "FetchX509Bundles");
    s.unix_attestor.answer = std::vector<std::string>{"uid:9"};
    s.start(allowed);
    loop.run_ready();
    EXPECT_EQ(s.call.sent.size(), allowed ? 1u : 0u);
    EXPECT_EQ(s.call.end(), allowed ? "" : "PermissionDenied: no identity issued");
  }
}

TEST(FetchX509Svid, MayDieAtEachOfItsSteps) {
  EXPECT_GT(destroy_at_every_step([](FakeLoop& loop) {
              auto s = std::make_unique<ApiScenario>(loop);
              s->cache.put_entry(make_entry("b", "/b", {{"unix", "uid:1"}}));  // so that it waits, too
              s->start();
              return s;
            }),
            3u);
}

Bytes jwt_request(std::string_view method) {
  if (method == "ValidateJWTSVID") {
    const std::string input = jws_signing_input(R"({"alg":"ES256","kid":"jwt-300"})",
                                                R"({"aud":"aud","exp":1895312835,"sub":"spiffe://example.org/a"})");
    const PrivateKey& key = shared_key(KeyType::ec_p256, 300);
    wire::Message<ValidateJWTSVIDRequest> request;
    wire::set_string(request->audience, "aud");
    wire::set_string(request->svid, *jws_seal(input, key.type(), *key.sign(HashAlg::sha256, sha256(as_bytes(input)))));
    return *request.encode();
  }
  wire::Message<JWTSVIDRequest> request;
  wire::write_strings(request->audience, request->audience_count, {"aud"});
  return *request.encode();
}

struct JwtScenario : ApiScenario {
  JwtScenario(FakeLoop& l, const std::string& method) : ApiScenario(l, method) {
    Bundle bundle = server.bundle;
    bundle.jwt_authorities = {{"jwt-300", shared_key(KeyType::ec_p256, 300).public_key().spki(), 0, false}};
    cache.put_bundle(bundle);
    server.entries = {make_entry("a", "/a", {{"unix", "uid:1"}})};
    attested();
    call.request = std::optional(jwt_request(method));
  }
};

TEST(JwtCalls, AnswerOnceAndEndOk) {
  for (const char* method : {"FetchJWTSVID", "ValidateJWTSVID"}) {
    FakeLoop loop;
    JwtScenario s(loop, method);
    s.start();
    loop.run_ready();
    EXPECT_EQ(s.call.sent.size(), 1u) << method << " " << s.call.end();
    EXPECT_EQ(s.call.end(), "OK") << method;
    EXPECT_EQ(s.call.was_secret, std::string(method) == "FetchJWTSVID");
  }
}

TEST(FetchJwtSvid, WaitsForTheFirstSyncAndForNothingElse) {
  FakeLoop loop;
  JwtScenario s(loop, "FetchJWTSVID");
  s.cache.remove_entry("a");
  s.known = false;
  s.start();
  loop.advance(1000);
  EXPECT_EQ(s.call.end(), "");
  s.cache.put_entry(s.server.entries[0]);
  s.audiences.refresh();
  loop.advance(1);
  EXPECT_EQ(s.call.end(), "OK");

  JwtScenario never(loop, "FetchJWTSVID");
  never.cache.remove_entry("a");
  never.known = false;
  never.start();
  loop.advance(agent::WorkloadApi::kWaitForAnyMs);
  EXPECT_EQ(never.call.end(), "Unavailable: the agent has not reached its server yet");
}

TEST(JwtCalls, MayDieAtEachOfTheirSteps) {
  for (const char* method : {"FetchJWTSVID", "ValidateJWTSVID"})
    EXPECT_GT(destroy_at_every_step([method](FakeLoop& loop) {
                auto s = std::make_unique<JwtScenario>(loop, method);
                s->start();
                return s;
              }),
              4u)
        << method;
}

}  // namespace
}  // namespace limpet::test
