// SPDX-License-Identifier: Apache-2.0
// Entry sync in both shapes, and the scheduler around it.
#include <gtest/gtest.h>

#include "agent/entry_sync.h"
#include "agent/syncer.h"
#include "fakes.h"
#include "loop/destroy_at_every_step.h"

namespace limpet::test {
namespace {

struct SyncScenario : World {
  explicit SyncScenario(FakeLoop& l, size_t count = 5, bool revisions = true, size_t page = 2) : World(l) {
    for (size_t i = 0; i < count; i++)
      server.entries.push_back(make_entry("e" + std::to_string(i), "/w" + std::to_string(i), {{"unix", "uid:1"}}));
    server.with_revisions = revisions;
    server.page = page;
    channel = std::make_unique<FakeChannel>(l, server, dialer.going_away);
  }
  void start(bool use_sync = true) {
    flow = std::make_unique<agent::EntrySync>(loop, cache);
    flow->start(*channel, use_sync, got.then<&SyncScenario::on>(this));
  }
  void on(Result<agent::EntriesUpdate> r) { result = std::move(r); }
  std::vector<std::string> ids() const {
    std::vector<std::string> out;
    for (const Entry& entry : (*result)->entries) out.push_back(entry.id);
    return out;
  }
  std::unique_ptr<FakeChannel> channel;
  std::optional<Result<agent::EntriesUpdate>> result;
  Pending<agent::EntriesUpdate> got;
  std::unique_ptr<agent::EntrySync> flow;
};

TEST(EntrySync, TakesAFullListFromOnePage) {
  FakeLoop loop;
  SyncScenario s(loop, 3, false);
  s.start();
  loop.run_ready();
  ASSERT_TRUE(s.result && *s.result);
  EXPECT_EQ(s.ids(), (std::vector<std::string>{"e0", "e1", "e2"}));
  EXPECT_EQ((*s.result)->present.size(), 3u);
}

TEST(EntrySync, TakesNoEntriesAtAllForAnEmptyFullList) {
  FakeLoop loop;
  SyncScenario s(loop, 0);
  s.start();
  loop.run_ready();
  ASSERT_TRUE(s.result && *s.result);
  EXPECT_TRUE((*s.result)->present.empty());
}

TEST(EntrySync, AsksOnlyForWhatIsNewOrStaleInPagesOfTheServersSize) {
  FakeLoop loop;
  SyncScenario s(loop, 5);
  s.cache.put_entry(s.server.entries[0]);  // current
  Entry old = s.server.entries[1];
  old.revision_number = 41;
  s.cache.put_entry(old);  // stale by revision
  old = s.server.entries[2];
  old.created_at = 1;
  s.cache.put_entry(old);  // stale by creation: the id was used again
  s.start();
  loop.run_ready();
  ASSERT_TRUE(s.result && *s.result) << s.result->error().text();
  EXPECT_EQ(s.server.id_pages, (std::vector<std::vector<std::string>>{{"e1", "e2"}, {"e3", "e4"}}));
  EXPECT_EQ(s.ids(), (std::vector<std::string>{"e1", "e2", "e3", "e4"}));
  EXPECT_EQ((*s.result)->present.size(), 5u);
}

TEST(EntrySync, AsksForNothingWhenAllIsCurrent) {
  FakeLoop loop;
  SyncScenario s(loop, 5);
  for (const Entry& entry : s.server.entries) s.cache.put_entry(entry);
  s.start();
  loop.run_ready();
  ASSERT_TRUE(s.result && *s.result);
  EXPECT_TRUE(s.server.id_pages.empty());
  EXPECT_TRUE((*s.result)->entries.empty());
  EXPECT_EQ((*s.result)->present.size(), 5u);
}

TEST(EntrySync, RejectsPagesThatMixEntriesAndRevisions) {
  for (const bool entries : {true, false}) {
    FakeLoop loop;
    SyncScenario s(loop, 5);
    (entries ? s.server.mix_entries : s.server.mix_revisions) = true;
    s.start();
    loop.run_ready();
    ASSERT_TRUE(s.result && !*s.result);
    EXPECT_NE(s.result->error().message.find("mixed"), std::string::npos);
  }
}

TEST(EntrySync, FallsBackToGetAuthorizedEntries) {
  FakeLoop loop;
  SyncScenario s(loop, 3);
  s.server.refuse["SyncAuthorizedEntries"] = {Code::unimplemented, "unknown method"};
  s.start();
  loop.run_ready();
  ASSERT_TRUE(s.result && *s.result);
  EXPECT_TRUE((*s.result)->sync_unimplemented);
  EXPECT_EQ(s.ids().size(), 3u);
}

TEST(EntrySync, KeepsThePlaceOfAnEntryItCannotRead) {
  FakeLoop loop;
  SyncScenario s(loop, 2, false);
  s.server.entries[1].id = std::string(256, 'x');  // longer than any store takes
  s.start();
  loop.run_ready();
  ASSERT_TRUE(s.result && *s.result);
  EXPECT_EQ((*s.result)->unreadable, 1u);
  EXPECT_EQ((*s.result)->present.size(), 2u);
}

TEST(EntrySync, EndsWhenTheServerSaysNothing) {
  FakeLoop loop;
  SyncScenario s(loop);
  s.server.silent = true;
  s.start();
  loop.advance(agent::EntrySync::kDeadlineMs);
  ASSERT_TRUE(s.result && !*s.result);
  EXPECT_EQ(s.result->error().code, Code::deadline_exceeded);
}

TEST(EntrySync, MayDieAtEachOfItsSteps) {
  EXPECT_GT(destroy_at_every_step([](FakeLoop& loop) {
              auto s = std::make_unique<SyncScenario>(loop);
              s->start();
              return s;
            }),
            8u);
}

// ---- the scheduler ----
struct SyncerScenario : World, agent::SyncerClient {
  explicit SyncerScenario(FakeLoop& l) : World(l) {
    server.entries.push_back(make_entry("e0", "/web", {{"unix", "uid:1"}}));
    flow = std::make_unique<agent::Syncer>(l, log, link, cache, *TrustDomain::parse("example.org"), 5000, *this);
    attested();
    flow->now();
  }
  void on_synced(agent::SyncOutcome outcome) override { outcomes.push_back(std::move(outcome)); }
  void on_sync_failed(const Error& why) override { errors.push_back(why); }
  std::vector<agent::SyncOutcome> outcomes;
  std::vector<Error> errors;
  std::unique_ptr<agent::Syncer> flow;
};

TEST(Syncer, SyncsEveryIntervalAndPostsTheStatusOnce) {
  FakeLoop loop;
  SyncerScenario s(loop);
  s.pass(60);
  EXPECT_GE(s.outcomes.size(), 10u);
  EXPECT_LE(s.outcomes.size(), 14u);
  EXPECT_EQ(s.server.count("PostStatus"), 1u);
  EXPECT_TRUE(s.errors.empty());
}

TEST(Syncer, FetchesEachFederatedBundleOnceAndToleratesAMissingOne) {
  FakeLoop loop;
  SyncerScenario s(loop);
  Bundle other = s.server.bundle;
  other.trust_domain = *TrustDomain::parse("other.org");
  s.server.federated["other.org"] = other;
  s.server.entries[0].federates_with = {"other.org", "missing.org"};
  s.server.entries.push_back(make_entry("e1", "/b", {{"unix", "uid:2"}}));
  s.server.entries[1].federates_with = {"other.org"};
  loop.run_ready();
  ASSERT_EQ(s.outcomes.size(), 1u);
  ASSERT_EQ(s.outcomes[0].federated.size(), 1u);
  EXPECT_EQ(s.outcomes[0].federated[0], other);
  EXPECT_EQ(s.outcomes[0].not_federated, std::vector<std::string>{"missing.org"});
  EXPECT_EQ(s.server.count("GetFederatedBundle"), 2u);
}

TEST(Syncer, FailsAsAWholeWhenAnyPartFails) {
  for (const char* method : {"SyncAuthorizedEntries", "GetBundle", "GetFederatedBundle"}) {
    FakeLoop loop;
    SyncerScenario s(loop);
    s.server.entries[0].federates_with = {"other.org"};
    s.server.refuse[method] = {Code::internal, "broken"};
    loop.run_ready();
    EXPECT_EQ(s.errors.size(), 1u) << method;
    EXPECT_TRUE(s.outcomes.empty()) << method;
  }
}

TEST(Syncer, AForeignBundleThatCannotBeReadHoldsUpNothing) {
  FakeLoop loop;
  SyncerScenario s(loop);
  Bundle broken;
  broken.trust_domain = *TrustDomain::parse("other.org");
  broken.x509_authorities = {{Bytes{1, 2, 3}, false}};
  s.server.federated["other.org"] = broken;
  broken.trust_domain = *TrustDomain::parse("somebody.else");
  broken.x509_authorities.clear();
  s.server.federated["third.org"] = broken;
  s.server.entries[0].federates_with = {"other.org", "third.org"};
  loop.run_ready();
  ASSERT_EQ(s.outcomes.size(), 1u);
  EXPECT_TRUE(s.outcomes[0].federated.empty() && s.outcomes[0].not_federated.empty());
  EXPECT_EQ(s.outcomes[0].unreadable, (std::vector<std::string>{"other.org", "third.org"}));
}

TEST(Syncer, RefusesABundleWithoutRoots) {
  FakeLoop loop;
  SyncerScenario s(loop);
  s.server.bundle.x509_authorities.clear();
  loop.run_ready();
  EXPECT_EQ(s.errors.size(), 1u);
  EXPECT_TRUE(s.outcomes.empty());
}

TEST(Syncer, WaitsLongerAfterEachFailureButNeverGivesUp) {
  FakeLoop loop;
  SyncerScenario s(loop);
  loop.run_ready();
  s.server.unreachable = true;
  s.pass(3600);
  const size_t failures = s.errors.size();
  EXPECT_GE(failures, 10u);
  EXPECT_LE(failures, 40u);
  s.server.unreachable = false;
  const size_t before = s.outcomes.size();
  s.pass(300);
  EXPECT_GT(s.outcomes.size(), before);
}

TEST(Syncer, MayDieAtEachOfItsSteps) {
  EXPECT_GT(destroy_at_every_step(
                [](FakeLoop& loop) {
                  auto s = std::make_unique<SyncerScenario>(loop);
                  s->server.entries[0].federates_with = {"other.org"};
                  return s;
                },
                60),
            20u);
}

}  // namespace
}  // namespace limpet::test
