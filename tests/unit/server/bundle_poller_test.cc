// SPDX-License-Identifier: Apache-2.0
#include "server/bundle_poller.h"

#include "proto/google/protobuf/empty.pb.h"
#include "proto/spire_trustdomain.pb.h"
#include "server_rig.h"
#include "store/bundles.h"
#include "wire/message.h"

namespace limpet::server::test {
namespace {

const TrustDomain kOther = *TrustDomain::parse("other.org");

// Answers as the test says; counts and remembers what it was asked.
class FakeFetcher final : public BundleFetcher {
 public:
  explicit FakeFetcher(Loop& loop) : loop_(loop) {}
  void fetch(BundleFetch what, Done<FetchedBundle> done) override {
    asked.push_back(std::move(what));
    if (hold) {
      held = std::move(done);
      return;
    }
    answer(std::move(done));
  }
  void answer(Done<FetchedBundle> done) {
    loop_.post([d = std::move(done), a = next]() mutable { d(std::move(a)); });
  }
  Result<FetchedBundle> next = fail(Code::unavailable, "connection refused");
  std::vector<BundleFetch> asked;
  bool hold = false;
  Done<FetchedBundle> held;

 private:
  Loop& loop_;
};

Bundle bundle(uint64_t sequence, int64_t hint = 0, size_t roots = 1) {
  Bundle out;
  out.trust_domain = kOther;
  for (size_t i = 0; i < roots; i++) out.x509_authorities.push_back({Bytes(10, static_cast<uint8_t>(i + 1)), false});
  out.jwt_authorities.push_back({"kid", Bytes(5, 7), 0, false});
  out.refresh_hint = hint;
  out.sequence_number = sequence;
  return out;
}

FederationRelationship relationship(const std::string& url = "https://other.org/") {
  return {kOther, url, BundleProfile::https_spiffe, *SpiffeId::parse("spiffe://other.org/spire/server")};
}

struct PollRig {
  explicit PollRig(bool begin = true) {
    rig.fetcher = &fetcher;
    if (!begin) return;
    create();
    EXPECT_TRUE(rig.start());
  }
  ~PollRig() { rig.core.reset(); }
  void create(const FederationRelationship& what = relationship()) {
    ChangeSet changes;
    create_relationship(changes, what);
    ASSERT_TRUE(rig.commit(std::move(changes)));
  }
  void put(const Bundle& what) {
    ChangeSet changes;
    put_bundle(changes, what);
    ASSERT_TRUE(rig.commit(std::move(changes)));
  }
  void serve(const Bundle& what, const std::string& etag = "") { fetcher.next = FetchedBundle{what, etag}; }
  std::optional<Bundle> stored() {
    auto found = find_bundle(rig.store->read(), kOther);
    return found ? std::optional(*found) : std::nullopt;
  }
  // Seconds until the next question, looked at once a second.
  int64_t until_next(int64_t most = 10'000) {
    const size_t before = fetcher.asked.size();
    for (int64_t s = 0; s <= most; s++) {
      if (fetcher.asked.size() > before) return s;
      rig.pass(1);
    }
    return -1;
  }
  Health::Part health() {
    const auto found = rig.health.parts().find("federation other.org");
    return found == rig.health.parts().end() ? Health::Part{HealthState::ok, ""} : found->second;
  }
  Result<wire::Message<google_protobuf_Empty>> refresh(const std::string& name = "other.org") {
    wire::Message<spire_api_server_trustdomain_v1_RefreshBundleRequest> request;
    wire::set_string(request->trust_domain, name);
    return rig.unary<google_protobuf_Empty>("trustdomain.v1.TrustDomain", "RefreshBundle", rig.local(), request);
  }
  ServerRig rig;
  FakeFetcher fetcher{rig.loop};
};

void expect_within(int64_t seconds, int64_t interval) {
  EXPECT_GE(seconds, interval);
  EXPECT_LE(seconds, interval + interval / 10 + 1);  // the phase, and looking once a second
}

TEST(BundlePoll, AsksAQuarterOfTheHintAfterTheLastAnswer) {
  struct Case {
    int64_t hint, interval;
  };
  EXPECT_EQ(poll_interval_s(nullptr), 60);
  for (const Case& c : {Case{0, 300}, Case{-5, 300}, Case{1, 15}, Case{60, 15}, Case{300, 75}, Case{3600, 900},
                        Case{INT32_MAX, 86'400}, Case{INT64_MAX, 86'400}}) {
    const Bundle one = bundle(1, c.hint);
    EXPECT_EQ(poll_interval_s(&one), c.interval) << c.hint;
  }
}

TEST(BundlePoll, DocumentsThatMayNotTakeThePlaceOfTheStoredOne) {
  const Bundle stored = bundle(5);
  EXPECT_TRUE(check_fetched(relationship(), bundle(5, 0, 2), &stored));
  EXPECT_TRUE(check_fetched(relationship(), bundle(6), &stored));
  EXPECT_TRUE(check_fetched(relationship(), bundle(0), &stored));  // says nothing about its age
  EXPECT_TRUE(check_fetched(relationship(), bundle(1), nullptr));
  const auto older = check_fetched(relationship(), bundle(4), &stored);
  ASSERT_FALSE(older);
  EXPECT_NE(older.error().message.find("sequence number 4, older than the stored 5"), std::string::npos);
  Bundle empty = bundle(9, 0, 0);
  EXPECT_FALSE(check_fetched(relationship(), empty, &stored));  // the endpoint could not be verified any more
  FederationRelationship web = relationship();
  web.profile = BundleProfile::https_web;
  EXPECT_TRUE(check_fetched(web, empty, &stored));
  empty.jwt_authorities.clear();
  EXPECT_FALSE(check_fetched(web, empty, &stored));
  EXPECT_FALSE(check_fetched(web, bundle(9, 0, limits::kBundleCertificates + 1), &stored));
}

TEST(BundlePoller, FetchesStoresAndAsksAgainWithTheTag) {
  PollRig r;
  r.serve(bundle(1, 300), "\"one\"");
  EXPECT_LE(r.until_next(), 3);
  EXPECT_EQ(r.stored(), bundle(1, 300));
  EXPECT_EQ(r.fetcher.asked[0].relationship, relationship());
  EXPECT_EQ(r.fetcher.asked[0].etag, "");
  EXPECT_NE(r.fetcher.asked[0].roots, nullptr);
  r.fetcher.next = FetchedBundle{std::nullopt, ""};
  expect_within(r.until_next(), 75);
  EXPECT_EQ(r.fetcher.asked[1].etag, "\"one\"");
  r.serve(bundle(2, 60), "\"two\"");
  expect_within(r.until_next(), 75);
  EXPECT_EQ(r.stored(), bundle(2, 60));
  expect_within(r.until_next(), 15);
  EXPECT_EQ(r.fetcher.asked[3].etag, "\"two\"");
  EXPECT_EQ(r.health().state, HealthState::ok);
}

TEST(BundlePoller, TheTagIsForgottenWhenSomebodyElseStoredABundle) {
  PollRig r;
  r.serve(bundle(1), "\"one\"");
  r.until_next();
  r.put(bundle(1, 0, 3));
  r.until_next();
  EXPECT_EQ(r.fetcher.asked.back().etag, "");
  EXPECT_EQ(r.stored(), bundle(1));
}

TEST(BundlePoller, WhatIsStoredStaysWhateverTheEndpointDoes) {
  PollRig r;
  r.serve(bundle(5, 600));
  r.until_next();
  const auto good = r.stored();
  ASSERT_TRUE(good);
  Bundle nothing = bundle(9, 0, 0);
  nothing.jwt_authorities.clear();
  const Result<FetchedBundle> answers[] = {fail(Code::unavailable, "connection refused"), FetchedBundle{bundle(4), ""},
                                           FetchedBundle{nothing, ""}, FetchedBundle{std::nullopt, ""}};
  for (const auto& answer : answers) {
    r.fetcher.next = answer;
    ASSERT_GT(r.until_next(), 0);
    EXPECT_EQ(r.stored(), good);
    EXPECT_EQ(r.health().state, HealthState::degraded);
    EXPECT_EQ(r.health().reason.find("its bundle may be stale: "), 0u);
    EXPECT_TRUE(r.rig.health.serving());
  }
  r.serve(bundle(6));
  r.until_next();
  EXPECT_EQ(r.stored(), bundle(6));
  EXPECT_EQ(r.health().state, HealthState::ok);
}

TEST(BundlePoller, AnEndpointThatIsDownIsAskedOnceInEachHint) {
  PollRig r;
  r.serve(bundle(5, 600));
  r.until_next();
  r.fetcher.next = fail(Code::unavailable, "connection refused");
  expect_within(r.until_next(), 150);
  expect_within(r.until_next(), 150);
  expect_within(r.until_next(), 300);
  expect_within(r.until_next(), 600);
  expect_within(r.until_next(), 600);
}

TEST(BundlePoller, WithoutABundleItAsksEachMinute) {
  PollRig r;
  for (int i = 0; i < 4; i++) {
    const int64_t waited = r.until_next();
    if (i > 0) expect_within(waited, 60);
  }
  EXPECT_EQ(r.health().reason.find("its bundle has not been fetched yet: connection refused"), 0u);
  r.put(bundle(1));  // by hand: the endpoint may be verifiable now
  EXPECT_LE(r.until_next(), 2);
}

TEST(BundlePoller, RelationshipsAreFollowedAsTheyComeChangeAndGo) {
  PollRig r(false);
  ASSERT_TRUE(r.rig.start());
  r.rig.pass(100);
  EXPECT_TRUE(r.fetcher.asked.empty());
  r.create();
  EXPECT_LE(r.until_next(), 3);
  EXPECT_EQ(r.health().state, HealthState::degraded);
  ChangeSet update, remove;
  update_relationship(update, relationship(), relationship("https://elsewhere/"));
  ASSERT_TRUE(r.rig.commit(std::move(update)));
  EXPECT_LE(r.until_next(), 3);
  EXPECT_EQ(r.fetcher.asked.back().relationship.url, "https://elsewhere/");
  remove_relationship(remove, kOther);
  ASSERT_TRUE(r.rig.commit(std::move(remove)));
  EXPECT_EQ(r.until_next(1000), -1);
  EXPECT_EQ(r.health().state, HealthState::ok);
}

TEST(BundlePoller, TheConfigurationsRelationshipTakesPrecedence) {
  PollRig r(false);
  r.rig.config.federation.federates_with.push_back(
      {"other.org", "https://fixed/", "https_spiffe", "spiffe://other.org/x"});
  r.create();
  ASSERT_TRUE(r.rig.start());
  EXPECT_LE(r.until_next(), 3);
  EXPECT_EQ(r.fetcher.asked[0].relationship.url, "https://fixed/");
  EXPECT_EQ(r.fetcher.asked[0].relationship.endpoint_id.text(), "spiffe://other.org/x");
  ChangeSet remove;
  remove_relationship(remove, kOther);
  ASSERT_TRUE(r.rig.commit(std::move(remove)));
  expect_within(r.until_next(), 60);
  EXPECT_EQ(r.fetcher.asked[1].relationship.url, "https://fixed/");
}

TEST(BundlePoller, TheConfigurationsRelationshipsChangeWhileItRuns) {
  PollRig r(false);
  ASSERT_TRUE(r.rig.start());
  EXPECT_EQ(r.until_next(1000), -1);
  auto& fixed = r.rig.config.federation.federates_with;
  fixed.push_back({"other.org", "https://fixed/", "https_spiffe", "spiffe://other.org/x"});
  r.rig.core->on_config_changed();
  EXPECT_LE(r.until_next(), 3);
  fixed[0].bundle_endpoint_url = "https://elsewhere/";
  r.rig.core->on_config_changed();
  EXPECT_LE(r.until_next(), 3);
  EXPECT_EQ(r.fetcher.asked.back().relationship.url, "https://elsewhere/");
  fixed.clear();
  r.rig.core->on_config_changed();
  EXPECT_EQ(r.until_next(1000), -1);
}

TEST(BundlePoller, RefreshAsksNowAndTellsHowItWent) {
  PollRig r;
  r.rig.pass(3);
  const size_t before = r.fetcher.asked.size();
  const auto refused = r.refresh();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::internal);
  EXPECT_EQ(refused.error().message, "failed to refresh bundle: connection refused");
  r.serve(bundle(3));
  EXPECT_TRUE(r.refresh());
  EXPECT_EQ(r.fetcher.asked.size(), before + 2);
  EXPECT_EQ(r.stored(), bundle(3));
  EXPECT_EQ(r.refresh("unknown.org").error().code, Code::not_found);
}

TEST(BundlePoller, RefreshesAtTheSameTimeShareOneQuestion) {
  PollRig r;
  r.rig.pass(3);
  const size_t before = r.fetcher.asked.size();
  r.fetcher.hold = true;
  Waited first, second;
  Done<void> one = first.done(), two = second.done();
  ASSERT_TRUE(r.rig.core->poller().refresh(kOther, one));
  ASSERT_TRUE(r.rig.core->poller().refresh(kOther, two));
  r.rig.run();
  EXPECT_EQ(r.fetcher.asked.size(), before + 1);
  EXPECT_FALSE(first.result);
  r.serve(bundle(1));
  r.fetcher.answer(std::move(r.fetcher.held));
  r.rig.run();
  EXPECT_TRUE(first.result && *first.result && second.result && *second.result);
}

TEST(BundlePoller, AFullDiskIsAFailureAndTheNextAttemptStores) {
  PollRig r;
  r.rig.disk_full = true;
  r.serve(bundle(1));
  r.until_next();
  EXPECT_FALSE(r.stored());
  EXPECT_EQ(r.health().state, HealthState::degraded);
  r.rig.disk_full = false;
  expect_within(r.until_next(), 60);
  EXPECT_EQ(r.stored(), bundle(1));
}

TEST(BundlePoller, MayDieAtEachOfItsSteps) {
  size_t total = 0;
  for (size_t most = 0; most <= total; most++) {
    PollRig r;
    r.serve(bundle(1));
    Waited waited;
    Done<void> done = waited.done();
    ASSERT_TRUE(r.rig.core->poller().refresh(kOther, done));
    size_t taken = 0;
    while (taken < most && r.rig.step()) taken++;
    if (most == 0) total = 6;
    r.rig.core.reset();
    r.rig.run();
    EXPECT_TRUE(waited.result) << "a refresh that nobody answered, after " << most << " steps";
  }
}

}  // namespace
}  // namespace limpet::server::test
