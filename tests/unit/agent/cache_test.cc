// SPDX-License-Identifier: Apache-2.0
// What a workload is shown: matching, order, hints, who hears of a change; and when SVIDs are signed and dropped.
#include <gtest/gtest.h>

#include "agent/audience.h"
#include "agent/svid_renewer.h"
#include "fakes.h"
#include "proto/workload.pb.h"

namespace limpet::test {
namespace {

using agent::CachedSvid;
using agent::Identity;
using agent::IdentityCache;

std::vector<std::string> ids(const std::vector<Identity*>& identities) {
  std::vector<std::string> out;
  for (const Identity* identity : identities) out.push_back(identity->entry.id);
  return out;
}

std::unique_ptr<CachedSvid> make_svid(int64_t not_before, int64_t not_after) {
  auto svid = std::make_unique<CachedSvid>();
  svid->chain = {1, 2, 3};
  svid->key = SecretBytes(Bytes{4, 5});
  svid->not_before = not_before;
  svid->not_after = not_after;
  svid->created_at = 100;
  return svid;
}

TEST(IdentityCache, MatchesEntriesWhoseSelectorsTheWorkloadHasAllOf) {
  IdentityCache cache;
  cache.put_entry(make_entry("c", "/c", {{"unix", "uid:1"}}));
  cache.put_entry(make_entry("a", "/a", {{"unix", "uid:1"}, {"unix", "gid:1"}}));
  cache.put_entry(make_entry("b", "/b", {{"unix", "uid:2"}}));
  cache.put_entry(make_entry("none", "/n", {}));
  Entry stored = make_entry("s", "/s", {{"unix", "uid:1"}});
  stored.store_svid = true;
  cache.put_entry(stored);
  EXPECT_EQ(ids(cache.match(make_selector_set({{"unix", "uid:1"}, {"unix", "gid:1"}, {"k8s", "x"}}))),
            (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(ids(cache.match(make_selector_set({{"unix", "uid:1"}}))), std::vector<std::string>{"c"});
  EXPECT_TRUE(cache.match({}).empty());
  cache.remove_entry("c");
  EXPECT_TRUE(cache.match(make_selector_set({{"unix", "uid:1"}})).empty());
}

TEST(IdentityCache, OfEqualHintsTheOldestEntryStays) {
  IdentityCache cache;
  struct {
    const char* id;
    const char* hint;
    int64_t created;
  } rows[] = {{"a", "h", 20}, {"b", "h", 10}, {"c", "h", 10}, {"d", "", 5}, {"e", "", 6}, {"f", "other", 1}};
  for (const auto& row : rows) {
    Entry entry = make_entry(row.id, "/x", {{"unix", "uid:1"}});
    entry.hint = row.hint;
    entry.created_at = row.created;
    cache.put_entry(entry);
  }
  EXPECT_EQ(ids(cache.match(make_selector_set({{"unix", "uid:1"}}))), (std::vector<std::string>{"b", "d", "e", "f"}));
}

TEST(IdentityCache, AnSvidOutlivesAChangedEntryButNotAnotherSpiffeId) {
  IdentityCache cache;
  cache.put_entry(make_entry("a", "/a", {{"unix", "uid:1"}}));
  cache.put_svid(*cache.find("a"), make_svid(0, 10));
  Entry changed = make_entry("a", "/a", {{"unix", "uid:2"}});
  changed.revision_number = 1;
  EXPECT_TRUE(cache.put_entry(changed));
  EXPECT_FALSE(cache.put_entry(changed)) << "nothing changed";
  EXPECT_NE(cache.find("a")->svid, nullptr);
  EXPECT_FALSE(cache.find("a")->current());
  EXPECT_EQ(ids(cache.match(make_selector_set({{"unix", "uid:2"}}))), std::vector<std::string>{"a"});
  changed.spiffe_id = *SpiffeId::parse("spiffe://example.org/b");
  cache.put_entry(changed);
  EXPECT_EQ(cache.find("a")->svid, nullptr);
  EXPECT_EQ(cache.svids(), 0u);
}

// ---- audiences ----
struct Member final : agent::AudienceMember {
  void on_view_changed() override { changes++; }
  int changes = 0;
};

struct AudienceWorld : World {
  explicit AudienceWorld(FakeLoop& l) : World(l) {
    cache.put_bundle(server.bundle);
    cache.put_entry(make_entry("a", "/a", {{"unix", "uid:1"}}));
    cache.put_entry(make_entry("b", "/b", {{"unix", "uid:2"}}));
    cache.put_svid(*cache.find("a"), make_svid(kNow, kNow + 100));
  }
  agent::Audience& audience(const char* selector) { return audiences.find(make_selector_set({{"unix", selector}})); }
  agent::Audiences audiences{loop, *clock, cache, "example.org"};
};

TEST(Audiences, TellOnlyThoseWhoseViewChanged) {
  FakeLoop loop;
  AudienceWorld w(loop);
  Member one, two;
  agent::Audience& first = w.audience("uid:1");
  agent::Audience& second = w.audience("uid:2");
  w.audiences.join(first, one);
  w.audiences.join(second, two);
  EXPECT_EQ(first.ready(), 1u);
  EXPECT_EQ(second.missing(), 1u);
  w.cache.put_svid(*w.cache.find("b"), make_svid(kNow, kNow + 100));
  w.audiences.refresh();
  EXPECT_EQ(one.changes, 0);
  EXPECT_EQ(two.changes, 1);
  w.audiences.refresh();
  EXPECT_EQ(two.changes, 1) << "nothing new";
  Bundle bundle = w.server.bundle;
  bundle.sequence_number++;
  w.cache.put_bundle(bundle);
  w.audiences.refresh();
  EXPECT_EQ(one.changes, 1);
  EXPECT_EQ(two.changes, 2);
  w.cache.remove_entry("b");
  w.audiences.refresh();
  EXPECT_TRUE(second.empty());
  EXPECT_EQ(two.changes, 3);
  w.audiences.leave(first, one);
  w.audiences.leave(second, two);
}

TEST(Audiences, CountWatchersAcrossMembersAndChanges) {
  FakeLoop loop;
  AudienceWorld w(loop);
  Member one, two;
  agent::Audience& audience = w.audience("uid:1");
  w.audiences.join(audience, one);
  w.audiences.join(audience, two);
  EXPECT_EQ(w.cache.find("a")->watchers, 1u);
  w.cache.put_entry(make_entry("a2", "/a2", {{"unix", "uid:1"}}));
  w.audiences.refresh();
  EXPECT_EQ(w.cache.find("a2")->watchers, 1u);
  w.audiences.leave(audience, one);
  EXPECT_EQ(w.cache.find("a")->watchers, 1u);
  w.audiences.leave(audience, two);
  EXPECT_EQ(w.cache.find("a")->watchers, 0u);
  EXPECT_EQ(w.cache.find("a2")->watchers, 0u);
}

TEST(Audiences, LeaveOutWhatHasExpired) {
  FakeLoop loop;
  AudienceWorld w(loop);
  EXPECT_EQ(w.audience("uid:1").ready(), 1u);
  w.clock->advance_ms(100'000);
  EXPECT_EQ(w.audience("uid:1").ready(), 0u);
  const auto empty = wire::Message<X509SVIDResponse>::decode(w.audience("uid:1").svids());
  EXPECT_EQ((*empty)->svids_count, 0);
}

TEST(Audiences, KeepABoundedNumberWithoutMembers) {
  FakeLoop loop;
  AudienceWorld w(loop);
  Member member;
  agent::Audience& held = w.audience("uid:1");
  w.audiences.join(held, member);
  for (int i = 0; i < 2000; i++) w.audience(("gid:" + std::to_string(i)).c_str());
  EXPECT_LE(w.audiences.size(), 300u);
  EXPECT_EQ(&w.audience("uid:1"), &held);
  w.audiences.leave(held, member);
}

TEST(Audiences, AnswerWithSvidsAndTheBundlesTheEntryFederatesWith) {
  FakeLoop loop;
  AudienceWorld w(loop);
  Bundle other = w.server.bundle, third = w.server.bundle;
  other.trust_domain = *TrustDomain::parse("other.org");
  third.trust_domain = *TrustDomain::parse("third.org");
  w.cache.put_bundle(other);
  w.cache.put_bundle(third);
  Entry entry = make_entry("a", "/a", {{"unix", "uid:1"}});
  entry.federates_with = {"other.org", "unknown.org"};
  entry.hint = "internal";
  w.cache.put_entry(entry);
  agent::Audience& audience = w.audience("uid:1");
  const auto svids = wire::Message<X509SVIDResponse>::decode(audience.svids());
  ASSERT_TRUE(svids && (*svids)->svids_count == 1);
  EXPECT_EQ(wire::view((*svids)->svids[0].spiffe_id), "spiffe://example.org/a");
  EXPECT_EQ(wire::view((*svids)->svids[0].hint), "internal");
  EXPECT_EQ(to_bytes(wire::view((*svids)->svids[0].x509_svid_key)), (Bytes{4, 5}));
  EXPECT_EQ(to_bytes(wire::view((*svids)->svids[0].bundle)), w.server.root.certificate.der);
  ASSERT_EQ((*svids)->federated_bundles_count, 1);
  EXPECT_EQ(wire::view((*svids)->federated_bundles[0].key), "spiffe://other.org");
  const auto bundles = wire::Message<X509BundlesResponse>::decode(audience.bundles());
  ASSERT_EQ((*bundles)->bundles_count, 2);
}

// ---- the renewer ----
struct RenewerWorld : World, agent::SvidRenewerClient {
  RenewerWorld(FakeLoop& l, int count, size_t limit = 1000)
      : World(l), renewer(l, *clock, log, link, cache, KeyType::ec_p256, limit, *this) {
    for (int i = 0; i < count; i++) {
      server.entries.push_back(
          make_entry("e" + std::to_string(100 + i), "/w" + std::to_string(i), {{"unix", "uid:" + std::to_string(i)}}));
      cache.put_entry(server.entries.back());
    }
    attested();
  }
  void on_svids(const std::vector<std::string>& entry_ids) override {
    told.insert(told.end(), entry_ids.begin(), entry_ids.end());
  }
  void on_sign_refused(const Error& why) override { refused.push_back(why); }
  std::vector<std::string> told;
  std::vector<Error> refused;
  agent::SvidRenewer renewer;
};

TEST(SvidRenewer, SignsNewEntriesAtOnceInOneCall) {
  FakeLoop loop;
  RenewerWorld w(loop, 5);
  w.renewer.poke();
  loop.advance(0);
  EXPECT_EQ(w.server.batches, std::vector<size_t>{5});
  EXPECT_EQ(w.told.size(), 5u);
  EXPECT_EQ(w.cache.svids(), 5u);
}

TEST(SvidRenewer, HalvesABatchTheServerDoesNotTake) {
  FakeLoop loop;
  RenewerWorld w(loop, 10);
  w.server.most_per_batch = 4;
  w.renewer.poke();
  w.pass(20);
  EXPECT_EQ(w.server.batches.front(), 10u);
  EXPECT_EQ(w.server.batches[1], 5u);
  EXPECT_EQ(w.cache.svids(), 10u);
}

TEST(SvidRenewer, RenewsAtHalfLifeWithoutAnySync) {
  FakeLoop loop;
  RenewerWorld w(loop, 1);
  w.renewer.poke();
  w.pass(1600);
  EXPECT_EQ(w.server.batches.size(), 1u);
  w.pass(400);
  EXPECT_EQ(w.server.batches.size(), 2u);
}

TEST(SvidRenewer, AClockThatIsAheadOrASecondsLongLifeMakesNoHotLoop) {
  struct Case {
    int64_t ahead;
    int64_t lifetime;
    size_t most;
  };
  for (const Case& c : {Case{1800, 3600, 3}, Case{10 * 3600, 3600, 3}, Case{0, 15, 1300}, Case{0, 2, 3601}}) {
    FakeLoop loop;
    RenewerWorld w(loop, 1);
    w.server.lifetime = c.lifetime;
    w.renewer.poke();
    for (int second = 0; second < 3600; second++) {
      w.server.now = w.clock->now() - c.ahead;
      w.clock->advance_ms(1000);
      loop.advance(1000);
    }
    EXPECT_LE(w.server.batches.size(), c.most) << c.ahead << " " << c.lifetime;
    EXPECT_GE(w.server.batches.size(), 2u) << c.ahead << " " << c.lifetime;
  }
}

TEST(SvidRenewer, ReplacesWhatHangsUnderATaintedAuthorityAHundredEveryFiveSeconds) {
  FakeLoop loop;
  RenewerWorld w(loop, 250);
  w.renewer.poke();
  w.pass(2);
  ASSERT_EQ(w.server.batches, std::vector<size_t>{250});
  Bundle bundle = w.server.bundle;
  bundle.x509_authorities[0].tainted = true;
  w.server.root = make_root("next", KeyType::ec_p256, 9);
  bundle.x509_authorities.push_back({w.server.root.certificate.der, false});
  w.cache.put_bundle(bundle);
  w.renewer.poke();
  w.pass(1);
  EXPECT_EQ(w.server.batches, (std::vector<size_t>{250, 100}));
  w.pass(14);
  EXPECT_EQ(w.server.batches, (std::vector<size_t>{250, 100, 100, 50}));
  for (const auto& [id, identity] : w.cache.identities()) EXPECT_FALSE(w.cache.tainted(*identity.svid)) << id;
}

TEST(SvidRenewer, ReplacesNothingTwiceWhenTheServerStillSignsWithATaintedAuthority) {
  FakeLoop loop;
  RenewerWorld w(loop, 1);
  w.renewer.poke();
  w.pass(2);
  Bundle bundle = w.server.bundle;
  bundle.x509_authorities[0].tainted = true;
  w.cache.put_bundle(bundle);
  w.renewer.poke();
  w.pass(60);
  EXPECT_EQ(w.server.batches.size(), 2u);
}

TEST(SvidRenewer, SignsAnewWhenTheEntryChanged) {
  FakeLoop loop;
  RenewerWorld w(loop, 1);
  w.renewer.poke();
  loop.advance(0);
  w.server.entries[0].revision_number = 1;
  w.cache.put_entry(w.server.entries[0]);
  w.renewer.poke();
  loop.advance(0);
  EXPECT_EQ(w.server.batches.size(), 2u);
  EXPECT_TRUE(w.cache.find("e100")->current());
}

TEST(SvidRenewer, KeepsTheOldSvidAndTriesAgainWhileTheServerIsAway) {
  FakeLoop loop;
  RenewerWorld w(loop, 1);
  w.renewer.poke();
  loop.advance(0);
  w.server.unreachable = true;
  w.pass(3000);
  EXPECT_NE(w.cache.find("e100")->svid, nullptr);
  EXPECT_FALSE(w.refused.empty());
  w.server.unreachable = false;
  w.pass(100);
  EXPECT_EQ(w.server.batches.size(), 2u);
}

TEST(SvidRenewer, OneRefusedEntryDoesNotHoldBackTheOthersOrHammerTheServer) {
  FakeLoop loop;
  RenewerWorld w(loop, 3);
  w.server.refuse_entries = {"e101"};
  w.renewer.poke();
  w.pass(600);
  EXPECT_EQ(w.cache.svids(), 2u);
  EXPECT_GE(w.server.batches.size(), 4u);
  EXPECT_LE(w.server.batches.size(), 10u);
}

TEST(SvidRenewer, StaysWithinTheCacheLimitExceptForWhatIsWatched) {
  FakeLoop loop;
  RenewerWorld w(loop, 6, 2);
  w.renewer.poke();
  loop.advance(0);
  EXPECT_EQ(w.cache.svids(), 2u);
  for (const char* id : {"e103", "e104", "e105"}) w.cache.find(id)->watchers = 1;
  w.renewer.poke();
  loop.advance(0);
  EXPECT_EQ(w.cache.svids(), 3u);
  for (const char* id : {"e103", "e104", "e105"}) EXPECT_NE(w.cache.find(id)->svid, nullptr) << id;
}

TEST(SvidRenewer, PrefetchesNothingForEntriesThatForbidIt) {
  FakeLoop loop;
  RenewerWorld w(loop, 1);
  w.server.entries[0].disable_x509_svid_prefetch = true;
  w.cache.put_entry(w.server.entries[0]);
  w.renewer.poke();
  w.pass(10);
  EXPECT_TRUE(w.server.batches.empty());
  w.cache.find("e100")->watchers = 1;
  w.renewer.poke();
  loop.advance(0);
  EXPECT_EQ(w.cache.svids(), 1u);
}

}  // namespace
}  // namespace limpet::test
