// SPDX-License-Identifier: Apache-2.0
// The Delegated Identity API: who may ask, for whom, what is given and what never is, and dying at any moment.
#include <gtest/gtest.h>

#include <map>

#include "agent/delegated_api.h"
#include "agent/jwt_issuer.h"
#include "agent/verified_tokens.h"
#include "crypto/der.h"
#include "fake_call.h"
#include "loop/destroy_at_every_step.h"
#include "proto/agent_delegated.pb.h"

namespace limpet::test {
namespace {

using SvidsRequest = spire_api_agent_delegatedidentity_v1_SubscribeToX509SVIDsRequest;
using SvidsResponse = spire_api_agent_delegatedidentity_v1_SubscribeToX509SVIDsResponse;
using JwtRequest = spire_api_agent_delegatedidentity_v1_FetchJWTSVIDsRequest;
using JwtResponse = spire_api_agent_delegatedidentity_v1_FetchJWTSVIDsResponse;
using JwtBundlesResponse = spire_api_agent_delegatedidentity_v1_SubscribeToJWTBundlesResponse;
using BundlesResponse = spire_api_agent_delegatedidentity_v1_SubscribeToX509BundlesResponse;

constexpr const char* kSvids = "SubscribeToX509SVIDs";
constexpr const char* kBundles = "SubscribeToX509Bundles";
constexpr const char* kJwtBundles = "SubscribeToJWTBundles";
constexpr const char* kJwtSvids = "FetchJWTSVIDs";
constexpr const char* kNeither = "InvalidArgument: must provide either selectors or non-zero PID, but not both";

// Says for each process what the test wants.
class ByPid final : public WorkloadAttestor {
 public:
  explicit ByPid(FakeLoop& loop) : loop_(loop) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  void attest(const WorkloadReference& workload, Done<std::vector<std::string>> done) override {
    asked.push_back(workload);
    loop_.post([a = answers[workload.pid], d = std::move(done)]() mutable { d(std::move(a)); });
  }
  std::map<int32_t, std::vector<std::string>> answers;
  std::vector<WorkloadReference> asked;

 private:
  FakeLoop& loop_;
  std::string name_ = "unix";
};

Bytes svids_request(const std::vector<Selector>& selectors, int32_t pid = 0) {
  wire::Message<SvidsRequest> request;
  wire::write_selectors(request->selectors, request->selectors_count, selectors);
  request->pid = pid;
  return *request.encode();
}

Bytes jwt_request(const std::vector<std::string>& audience, const std::vector<Selector>& selectors, int32_t pid = 0) {
  wire::Message<JwtRequest> request;
  wire::write_strings(request->audience, request->audience_count, audience);
  wire::write_selectors(request->selectors, request->selectors_count, selectors);
  request->pid = pid;
  return *request.encode();
}

// This process is the delegate; uid 1 is a workload, its parent process runs as uid 2.
struct DelegatedScenario : World, agent::WorkloadApiClient {
  explicit DelegatedScenario(FakeLoop& l, const std::string& method = kSvids)
      : World(l), call(l, method, agent::DelegatedApi::kName) {
    attestor_by_pid.answers[::getpid()] = {"uid:0"};
    attestor_by_pid.answers[::getppid()] = {"uid:2"};
    call.headers = {};
    call.request = std::optional(svids_request({{"unix", "uid:1"}}));
    cache.put_bundle(server.bundle);
    cache.put_entry(make_entry("delegate", "/delegate", {{"unix", "uid:0"}}));
    cache.put_entry(make_entry("a", "/a", {{"unix", "uid:1"}}));
    cache.put_entry(make_entry("b", "/b", {{"unix", "uid:2"}}));
    sign("a", kNow + 3600);
    sign("b", kNow + 3600);
  }
  void sign(const char* id, int64_t not_after) {
    auto svid = std::make_unique<agent::CachedSvid>();
    for (const char* text : {"leaf", "intermediate"})
      append(svid->chain, der::sequence({der::element(der::kUtf8String, as_bytes(text))}));
    svid->key = SecretBytes(Bytes{4, 5});
    svid->not_after = not_after;
    cache.put_svid(*cache.find(id), std::move(svid));
    audiences.refresh();
  }
  void start() {
    const agent::WorkloadApiParts workload{loop, log, audiences, attestors, *this, *clock, jwt, verified, {}, false};
    api = std::make_unique<agent::DelegatedApi>(agent::DelegatedParts{workload, {"spiffe://example.org/delegate"}});
    flow = api->open(call);
    if (flow != nullptr) flow->start();
  }
  void run() {
    start();
    loop.run_ready();
  }
  // The paths of the SVIDs in one answer.
  std::string given(size_t i) {
    const auto message = wire::Message<SvidsResponse>::decode(call.sent.at(i));
    std::string out;
    for (const auto& svid : wire::items((*message)->x509_svids, (*message)->x509_svids_count))
      out += std::string(wire::view(svid.x509_svid.id.path)) + " ";
    return out;
  }
  void on_identity_wanted() override { wanted++; }
  [[nodiscard]] bool knows_entries() const override { return known; }

  ByPid attestor_by_pid{loop};
  std::vector<WorkloadAttestor*> attestors{&attestor_by_pid};
  agent::Audiences audiences{loop, *clock, cache, "example.org"};
  agent::JwtIssuer jwt{loop, *clock, log, link, {2, 5'000}};
  agent::VerifiedTokens verified;
  int wanted = 0;
  bool known = true;
  FakeCall call;
  std::unique_ptr<agent::DelegatedApi> api;
  std::unique_ptr<wire::ServerFlow> flow;
};

TEST(DelegatedIdentity, KnowsItsMethodsOnly) {
  FakeLoop loop;
  DelegatedScenario s(loop, "SubscribeToNothing");
  s.start();
  EXPECT_EQ(s.flow, nullptr);
}

TEST(DelegatedIdentity, GivesChainKeyAndFederatedIds) {
  FakeLoop loop;
  DelegatedScenario s(loop);
  Entry entry = make_entry("a", "/a", {{"unix", "uid:1"}});
  entry.revision_number = 1;
  entry.hint = "internal";
  entry.federates_with = {"unknown.org", "other.org", "example.org"};
  s.cache.put_entry(entry);
  Bundle other;
  other.trust_domain = *TrustDomain::parse("other.org");
  s.cache.put_bundle(other);
  s.run();
  ASSERT_EQ(s.call.sent.size(), 1u) << s.call.end();
  EXPECT_TRUE(s.call.was_secret);
  const auto message = wire::Message<SvidsResponse>::decode(s.call.sent[0]);
  ASSERT_EQ((*message)->x509_svids_count, 1u);
  const auto& svid = (*message)->x509_svids[0];
  const auto read = wire::read_x509_svid(svid.x509_svid);
  ASSERT_TRUE(read.has_value()) << read.error().text();
  EXPECT_EQ(read->id.text(), "spiffe://example.org/a");
  EXPECT_EQ(read->chain.size(), 2u);
  EXPECT_EQ(read->chain[0], der::sequence({der::element(der::kUtf8String, as_bytes("leaf"))}));
  EXPECT_EQ(read->expires_at, kNow + 3600);
  EXPECT_EQ(read->hint, "internal");
  EXPECT_EQ(to_bytes(wire::view(svid.x509_svid_key)), (Bytes{4, 5}));
  EXPECT_EQ(wire::read_strings((*message)->federates_with, (*message)->federates_with_count),
            std::vector<std::string>{"spiffe://other.org"});
}

TEST(DelegatedIdentity, NeverGivesAdminAndDownstreamIdentities) {
  FakeLoop loop;
  DelegatedScenario s(loop);
  Entry admin = make_entry("c", "/c", {{"unix", "uid:1"}});
  admin.admin = true;
  Entry downstream = make_entry("d", "/d", {{"unix", "uid:1"}});
  downstream.downstream = true;
  s.cache.put_entry(admin);
  s.cache.put_entry(downstream);
  s.sign("c", kNow + 3600);
  s.run();
  ASSERT_EQ(s.call.sent.size(), 1u) << "and does not wait for theirs: " << s.call.end();
  EXPECT_EQ(s.given(0), "/a ");
  EXPECT_EQ(s.wanted, 0);
}

struct RequestCase {
  const char* name;
  std::vector<Selector> selectors;
  int32_t pid;
  std::string end;
};
class Requests : public ::testing::TestWithParam<RequestCase> {};

TEST_P(Requests, NameExactlyOneTarget) {
  FakeLoop loop;
  DelegatedScenario s(loop);
  s.call.request = std::optional(svids_request(GetParam().selectors, GetParam().pid));
  s.run();
  EXPECT_EQ(s.call.end(), GetParam().end);
  EXPECT_TRUE(s.call.sent.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Bad, Requests,
    ::testing::Values(RequestCase{"Neither", {}, 0, kNeither}, RequestCase{"Both", {{"unix", "uid:1"}}, 1, kNeither},
                      RequestCase{"NoType", {{"", "uid:1"}}, 0, "InvalidArgument: could not parse provided selectors"},
                      RequestCase{"NoValue", {{"unix", ""}}, 0, "InvalidArgument: could not parse provided selectors"},
                      RequestCase{"Colon", {{"a:b", "c"}}, 0, "InvalidArgument: could not parse provided selectors"},
                      RequestCase{"Many", std::vector<Selector>(1025, {"unix", "uid:1"}), 0,
                                  "InvalidArgument: selectors has more than 1024 selectors"},
                      RequestCase{"NegativePid", {}, -1, "Internal: could not attest provided pid"},
                      RequestCase{"NoSuchPid", {}, INT32_MAX, "Internal: could not attest provided pid"}),
    [](const auto& param) { return param.param.name; });

TEST(DelegatedIdentity, AttestsTheProcessThatIsNamed) {
  FakeLoop loop;
  DelegatedScenario s(loop);
  s.call.request = std::optional(svids_request({}, ::getppid()));
  s.run();
  ASSERT_EQ(s.call.sent.size(), 1u) << s.call.end();
  EXPECT_EQ(s.given(0), "/b ");
  ASSERT_EQ(s.attestor_by_pid.asked.size(), 2u);
  EXPECT_EQ(s.attestor_by_pid.asked[1].pid, ::getppid());
  EXPECT_EQ(s.attestor_by_pid.asked[1].uid, ::geteuid());
  EXPECT_GE(s.attestor_by_pid.asked[1].pidfd, 0);
}

TEST(DelegatedIdentity, RefusesWhoIsNoDelegateBeforeItLooksAtTheRequest) {
  const struct {
    std::vector<std::string> caller;
    const char* end;
  } rows[] = {{{"uid:9"}, "PermissionDenied: no identity issued"},
              {{"uid:1"}, "PermissionDenied: caller not configured as an authorized delegate"}};
  for (const auto& row : rows) {
    for (const char* method : {kSvids, kBundles}) {
      FakeLoop loop;
      DelegatedScenario s(loop, method);
      s.attestor_by_pid.answers[::getpid()] = row.caller;
      if (method == std::string(kSvids)) s.call.request = std::optional(svids_request({}, 0));
      s.run();
      EXPECT_EQ(s.call.end(), row.end);
      EXPECT_TRUE(s.call.sent.empty());
    }
  }
}

TEST(DelegatedIdentity, RefusesACallerThatIsAnotherProcessByNow) {
  FakeLoop loop;
  DelegatedScenario s(loop);
  s.call.peer_.process_start++;
  s.run();
  EXPECT_EQ(s.call.end(), "Internal: workload attestation failed");
}

TEST(DelegatedIdentity, EndsWhenTheDelegateIsNoneAnyMore) {
  for (const char* method : {kSvids, kBundles}) {
    FakeLoop loop;
    DelegatedScenario s(loop, method);
    if (method == std::string(kBundles)) s.call.request = std::optional(Bytes{});
    s.run();
    EXPECT_EQ(s.call.sent.size(), 1u) << s.call.end();
    s.cache.remove_entry("delegate");
    s.audiences.refresh();
    loop.run_ready();
    EXPECT_EQ(s.call.end(), "PermissionDenied: no identity issued") << method;
    EXPECT_EQ(s.call.ended.size(), 1u);
    EXPECT_EQ(s.call.sent.size(), 1u);
  }
}

TEST(DelegatedIdentity, PushesEachUpdateOfItsTargetsOnly) {
  FakeLoop loop;
  DelegatedScenario s(loop);
  s.run();
  s.sign("b", kNow + 50);
  s.sign("delegate", kNow + 50);
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 1u);
  s.sign("a", kNow + 7200);
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 2u);
  s.cache.remove_entry("a");
  s.audiences.refresh();
  loop.run_ready();
  ASSERT_EQ(s.call.sent.size(), 3u);
  EXPECT_EQ(s.given(2), "");
  EXPECT_EQ(s.call.end(), "");
}

TEST(DelegatedIdentity, AnswersWithNothingWhereNothingMatches) {
  FakeLoop loop;
  DelegatedScenario s(loop);
  s.call.request = std::optional(svids_request({{"unix", "uid:77"}}));
  s.run();
  ASSERT_EQ(s.call.sent.size(), 1u) << s.call.end();
  EXPECT_EQ(s.given(0), "");
  s.cache.put_entry(make_entry("n", "/n", {{"unix", "uid:77"}}));
  s.sign("n", kNow + 60);
  loop.run_ready();
  ASSERT_EQ(s.call.sent.size(), 2u);
  EXPECT_EQ(s.given(1), "/n ");
}

TEST(DelegatedIdentity, WaitsForASvidThatIsOnItsWay) {
  FakeLoop loop;
  DelegatedScenario s(loop);
  s.cache.drop_svid(*s.cache.find("a"));
  s.start();
  loop.advance(3000);
  EXPECT_TRUE(s.call.sent.empty());
  EXPECT_GE(s.wanted, 1);
  s.sign("a", kNow + 100);
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 1u);

  DelegatedScenario never(loop);
  never.cache.drop_svid(*never.cache.find("a"));
  never.start();
  loop.advance(agent::WorkloadApi::kWaitForAnyMs);
  EXPECT_TRUE(never.call.end().starts_with("Unavailable: no valid X.509-SVID yet")) << never.call.end();
}

TEST(DelegatedIdentity, WaitsForTheFirstSyncBeforeItRefuses) {
  FakeLoop loop;
  DelegatedScenario s(loop);
  s.cache.remove_entry("delegate");
  s.known = false;
  s.start();
  loop.advance(1000);
  EXPECT_EQ(s.call.end(), "");
  s.known = true;
  s.cache.put_entry(make_entry("delegate", "/delegate", {{"unix", "uid:0"}}));
  s.audiences.refresh();
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 1u) << s.call.end();

  DelegatedScenario never(loop);
  never.cache.remove_entry("delegate");
  never.known = false;
  never.start();
  loop.advance(agent::WorkloadApi::kWaitForAnyMs);
  EXPECT_EQ(never.call.end(), "Unavailable: the agent has not reached its server yet");
}

TEST(DelegatedBundles, GivesEveryBundleAndEachChange) {
  FakeLoop loop;
  DelegatedScenario s(loop, kBundles);
  s.call.request = std::optional(Bytes{});
  s.run();
  ASSERT_EQ(s.call.sent.size(), 1u) << s.call.end();
  s.sign("a", kNow + 7200);
  loop.run_ready();
  EXPECT_EQ(s.call.sent.size(), 1u) << "no bundle has changed";
  Bundle other;
  other.trust_domain = *TrustDomain::parse("other.org");
  other.x509_authorities = {{{0x30, 0x00}, false}, {{0x30, 0x00}, false}};
  s.cache.put_bundle(other);
  s.audiences.refresh();
  loop.run_ready();
  ASSERT_EQ(s.call.sent.size(), 2u);
  const auto message = wire::Message<BundlesResponse>::decode(s.call.sent[1]);
  ASSERT_EQ((*message)->ca_certificates_count, 2u);
  EXPECT_EQ(wire::view((*message)->ca_certificates[1].key), "spiffe://other.org");
  EXPECT_EQ(to_bytes(wire::view((*message)->ca_certificates[1].value)), (Bytes{0x30, 0x00, 0x30, 0x00}));
}

struct JwtDelegated : DelegatedScenario {
  explicit JwtDelegated(FakeLoop& l, const Bytes& request) : DelegatedScenario(l, kJwtSvids) {
    Entry admin = make_entry("c", "/c", {{"unix", "uid:1"}});
    admin.admin = true;
    cache.put_entry(admin);
    server.entries = {make_entry("a", "/a", {{"unix", "uid:1"}}), make_entry("b", "/b", {{"unix", "uid:2"}}), admin};
    attested();
    call.request = std::optional(request);
  }
};

TEST(DelegatedJwt, GivesATokenForEachThatMayBeDelegated) {
  FakeLoop loop;
  JwtDelegated s(loop, jwt_request({"aud"}, {{"unix", "uid:1"}, {"unix", "uid:2"}}));
  s.run();
  ASSERT_EQ(s.call.sent.size(), 1u) << s.call.end();
  EXPECT_EQ(s.call.end(), "OK");
  EXPECT_TRUE(s.call.was_secret);
  const auto message = wire::Message<JwtResponse>::decode(s.call.sent[0]);
  ASSERT_EQ((*message)->svids_count, 2u);
  const auto svid = wire::read_jwt_svid((*message)->svids[1]);
  ASSERT_TRUE(svid.has_value()) << svid.error().text();
  EXPECT_EQ(svid->id.text(), "spiffe://example.org/b");
  EXPECT_FALSE(svid->token.empty());
  EXPECT_GT(svid->expires_at, kNow);
  EXPECT_LE(svid->issued_at, kNow);
}

TEST(DelegatedJwt, RefusesInTheOrderOfParametersCallerTarget) {
  const struct {
    Bytes request;
    std::vector<std::string> caller;
    std::string end;
  } rows[] = {
      {jwt_request({}, {}), {"uid:9"}, "InvalidArgument: audience must be specified"},
      {jwt_request(std::vector<std::string>(65, "a"), {}),
       {"uid:9"},
       "InvalidArgument: audience has more than 64 values or 8 KiB"},
      {jwt_request({"aud"}, {}), {"uid:9"}, "PermissionDenied: no identity issued"},
      {jwt_request({"aud"}, {}), {"uid:1"}, "PermissionDenied: caller not configured as an authorized delegate"},
      {jwt_request({"aud"}, {}), {"uid:0"}, kNeither},
      {jwt_request({"aud"}, {{"unix", "uid:1"}}, 1), {"uid:0"}, kNeither},
      {jwt_request({"aud"}, {{"unix", "uid:77"}}), {"uid:0"}, "PermissionDenied: no identity issued"},
  };
  for (const auto& row : rows) {
    FakeLoop loop;
    JwtDelegated s(loop, row.request);
    s.attestor_by_pid.answers[::getpid()] = row.caller;
    s.run();
    EXPECT_EQ(s.call.end(), row.end);
    EXPECT_TRUE(s.call.sent.empty());
  }
}

TEST(DelegatedJwt, SaysWhyTheServerGaveNone) {
  FakeLoop loop;
  JwtDelegated s(loop, jwt_request({"aud"}, {{"unix", "uid:1"}}));
  s.server.refuse["NewJWTSVID"] = {Code::internal, "no"};
  s.run();
  loop.advance(60'000);
  EXPECT_TRUE(s.call.end().starts_with("Unavailable: could not fetch JWT-SVID: ")) << s.call.end();
}

TEST(DelegatedBundles, GivesTheJwtKeysOfEveryTrustDomain) {
  FakeLoop loop;
  DelegatedScenario s(loop, kJwtBundles);
  s.call.request = std::optional(Bytes{});
  s.run();
  ASSERT_EQ(s.call.sent.size(), 1u) << s.call.end();
  Bundle bundle = s.server.bundle;
  bundle.jwt_authorities = {{"jwt-300", shared_key(KeyType::ec_p256, 300).public_key().spki(), 0, false}};
  s.cache.put_bundle(bundle);
  s.audiences.refresh();
  loop.run_ready();
  ASSERT_EQ(s.call.sent.size(), 2u);
  const auto message = wire::Message<JwtBundlesResponse>::decode(s.call.sent[1]);
  ASSERT_EQ((*message)->bundles_count, 1u);
  EXPECT_EQ(wire::view((*message)->bundles[0].key), "spiffe://example.org");
  const std::string_view jwks = as_text(wire::view((*message)->bundles[0].value));
  EXPECT_NE(jwks.find("jwt-300"), std::string_view::npos) << jwks;
  EXPECT_EQ(jwks.find("x5c"), std::string_view::npos) << jwks;
}

TEST(DelegatedJwt, MayDieAtEachOfItsSteps) {
  for (const bool by_pid : {false, true}) {
    EXPECT_GT(destroy_at_every_step([by_pid](FakeLoop& loop) {
                const Bytes request = by_pid ? jwt_request({"aud"}, {}, ::getppid())
                                             : jwt_request({"aud"}, {{"unix", "uid:1"}, {"unix", "uid:2"}});
                auto s = std::make_unique<JwtDelegated>(loop, request);
                s->start();
                return s;
              }),
              5u);
  }
}

TEST(DelegatedIdentity, RefusesWhatIsNoMessage) {
  for (const char* method : {kSvids, kBundles, kJwtBundles, kJwtSvids}) {
    FakeLoop loop;
    DelegatedScenario s(loop, method);
    s.call.request = std::optional(Bytes{0xFF});
    s.run();
    EXPECT_TRUE(s.call.end().starts_with("InvalidArgument: ")) << s.call.end();
    DelegatedScenario none(loop, method);
    none.call.request = std::optional<Bytes>();
    none.run();
    EXPECT_TRUE(none.call.end().starts_with("Internal: ")) << none.call.end();
  }
}

TEST(DelegatedIdentity, MayDieAtEachOfItsSteps) {
  for (const char* method : {kSvids, kBundles}) {
    for (const int32_t pid : {0, ::getppid()}) {
      const size_t steps = destroy_at_every_step([method, pid](FakeLoop& loop) {
        auto s = std::make_unique<DelegatedScenario>(loop, method);
        s->call.request = std::optional(method == std::string(kBundles) ? Bytes{}
                                        : pid == 0                      ? svids_request({{"unix", "uid:1"}})
                                                                        : svids_request({}, pid));
        s->cache.put_entry(make_entry("e", "/e", {{"unix", "uid:1"}}));  // so that it waits, too
        s->start();
        return s;
      });
      EXPECT_GE(steps, 3u);
    }
  }
}

}  // namespace
}  // namespace limpet::test
