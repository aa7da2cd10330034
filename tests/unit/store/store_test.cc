// SPDX-License-Identifier: Apache-2.0
#include "store/store.h"

#include <gmock/gmock.h>

#include "store_rig.h"

namespace limpet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
constexpr TableId kTable = TableId::agent_state;

struct Recorder final : StoreObserver {
  void on_commit(uint64_t revision, const std::vector<Change>& changes) override {
    std::string line = std::to_string(revision) + ":";
    for (const Change& change : changes) line += (change.deleted ? " -" : " +") + std::string(as_text(change.key));
    lines.push_back(line);
  }
  std::vector<std::string> lines;
};

TEST(Store, WhatWasCommittedIsReadBackAfterReopening) {
  Rig rig;
  rig.open();
  EXPECT_EQ(rig.get(kTable, "a"), "?NotFound");
  EXPECT_EQ(rig.put(kTable, "a", "1"), 1u);
  EXPECT_EQ(rig.put(kTable, "a", "2"), 2u);
  EXPECT_EQ(rig.put(kTable, "empty", ""), 3u);
  rig.open();
  EXPECT_EQ(rig.store->damage(), "");
  EXPECT_EQ(rig.get(kTable, "a"), "2");
  EXPECT_EQ(rig.get(kTable, "empty"), "");
  EXPECT_EQ(rig.store->read().revision(), 3u);
  EXPECT_EQ(rig.store->read().count(kTable), 2u);
  EXPECT_EQ(rig.put(kTable, "b", "3"), 4u);
}

TEST(Store, AKeyThatCannotBeStoredIsRefusedAndDoesNoHarmToOthersInItsGroup) {
  Rig rig;
  rig.open();
  for (const std::string& key : {std::string(), std::string(512, 'k')}) {
    auto answer = rig.put(kTable, key, "v");
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().code, Code::invalid_argument);
  }
  Wait good, bad, too;
  ChangeSet a, b, c;
  a.put(kTable, as_bytes("a"), as_bytes("1"));
  b.put(kTable, as_bytes("b"), as_bytes("1"));
  b.put(kTable, as_bytes(std::string(600, 'x')), as_bytes("1"));
  c.put(kTable, as_bytes(std::string(511, 'c')), as_bytes("1"));
  rig.store->commit(std::move(a), good.done());
  rig.store->commit(std::move(b), bad.done());
  rig.store->commit(std::move(c), too.done());
  rig.store->settle();
  rig.loop.run_ready();
  EXPECT_EQ(*good.answer, 1u);
  EXPECT_EQ(bad.answer->error().code, Code::invalid_argument);
  EXPECT_EQ(*too.answer, 2u);
  EXPECT_EQ(rig.get(kTable, "b"), "?NotFound");
  EXPECT_FALSE(rig.store->read_only());
}

TEST(Store, AFailedPreconditionAbortsItsChangeSetOnly) {
  struct Case {
    const char* name;
    void (*require)(ChangeSet&);
    bool holds;
  };
  const Case cases[] = {
      {"absent, and it is", [](ChangeSet& s) { s.require_absent(kTable, as_bytes("none")); }, true},
      {"absent, and it is not", [](ChangeSet& s) { s.require_absent(kTable, as_bytes("a")); }, false},
      {"present, and it is", [](ChangeSet& s) { s.require_present(kTable, as_bytes("a")); }, true},
      {"present, and it is not", [](ChangeSet& s) { s.require_present(kTable, as_bytes("none")); }, false},
      {"equal, and it is", [](ChangeSet& s) { s.require_equal(kTable, as_bytes("a"), as_bytes("1")); }, true},
      {"equal, and it is shorter", [](ChangeSet& s) { s.require_equal(kTable, as_bytes("a"), as_bytes("11")); }, false},
      {"equal, and it is absent", [](ChangeSet& s) { s.require_equal(kTable, as_bytes("none"), as_bytes("")); }, false},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    Rig rig;
    rig.open();
    ASSERT_EQ(rig.put(kTable, "a", "1"), 1u);
    Wait first, judged, last;
    ChangeSet a, b, d;
    a.put(kTable, as_bytes("x"), as_bytes("1"));
    c.require(b);
    b.put(kTable, as_bytes("y"), as_bytes("1"));
    b.remove(kTable, as_bytes("a"));
    d.put(kTable, as_bytes("z"), as_bytes("1"));
    rig.store->commit(std::move(a), first.done());
    rig.store->commit(std::move(b), judged.done());
    rig.store->commit(std::move(d), last.done());
    rig.store->settle();
    rig.loop.run_ready();
    EXPECT_EQ(*first.answer, 2u);
    EXPECT_EQ(judged.answer->has_value(), c.holds);
    if (!c.holds) {
      EXPECT_EQ(judged.answer->error().code, Code::aborted);
      EXPECT_THAT(judged.answer->error().message, HasSubstr("agent_state"));
    }
    EXPECT_EQ(*last.answer, c.holds ? 4u : 3u);
    EXPECT_EQ(rig.get(kTable, "y"), c.holds ? "1" : "?NotFound");
    EXPECT_EQ(rig.get(kTable, "a"), c.holds ? "?NotFound" : "1");
  }
}

TEST(Store, APreconditionSeesTheChangeSetsBeforeItInTheSameGroup) {
  Rig rig;
  rig.open();
  Wait waits[2];
  for (Wait& wait : waits) {
    ChangeSet take;
    take.require_absent(kTable, as_bytes("token"));
    take.put(kTable, as_bytes("token"), as_bytes("taken"));
    rig.store->commit(std::move(take), wait.done());
  }
  rig.store->settle();
  rig.loop.run_ready();
  EXPECT_TRUE(waits[0].answer->has_value());
  EXPECT_EQ(waits[1].answer->error().code, Code::aborted);
}

TEST(Store, ObserversHearOfEachCommitInOrderAndBeforeItsDone) {
  Rig rig;
  rig.open();
  Recorder recorder, gone;
  rig.store->subscribe(recorder);
  rig.store->subscribe(gone);
  rig.store->unsubscribe(gone);
  struct Waiter {
    Recorder* recorder;
    Pending<uint64_t> pending;
    size_t heard = 0;
    void on_done(Result<uint64_t>) { heard = recorder->lines.size(); }
  } waiters[3] = {{&recorder, {}, 0}, {&recorder, {}, 0}, {&recorder, {}, 0}};
  const char* keys[] = {"a", "b", "c"};
  for (int i = 0; i < 3; ++i) {
    ChangeSet set;
    set.put(kTable, as_bytes(keys[i]), as_bytes("1"));
    if (i == 2) set.remove(kTable, as_bytes("a"));
    if (i == 2) set.remove(kTable, as_bytes("never there"));
    rig.store->commit(std::move(set), waiters[i].pending.then<&Waiter::on_done>(&waiters[i]));
  }
  rig.store->settle();
  EXPECT_TRUE(recorder.lines.empty()) << "told outside the loop";
  rig.loop.run_ready();
  EXPECT_THAT(recorder.lines, ElementsAre("1: +a", "2: +b", "3: +c -a"));
  EXPECT_THAT(gone.lines, ElementsAre());
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(waiters[i].heard, i + 1);
  rig.store->unsubscribe(recorder);
}

TEST(Store, TheChangeLogTellsWhatHappenedAfterARevision) {
  Rig rig;
  rig.open();
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(rig.put(kTable, key, "1").has_value());
  auto log = [&rig](uint64_t after) {
    Recorder recorder;
    auto result = rig.store->read().changes(after, [&recorder](uint64_t revision, const std::vector<Change>& changes) {
      recorder.on_commit(revision, changes);
      return true;
    });
    if (!result) recorder.lines.push_back(code_name(result.error().code));
    return recorder.lines;
  };
  EXPECT_THAT(log(0), ElementsAre("1: +a", "2: +b", "3: +c"));
  EXPECT_THAT(log(2), ElementsAre("3: +c"));
  EXPECT_THAT(log(3), ElementsAre());
  EXPECT_THAT(log(4), ElementsAre("FailedPrecondition"));
}

TEST(Store, ThePrunedPartOfTheLogIsRefusedAndTheLogStaysShort) {
  Rig rig;
  rig.open({.log_keep = 10});
  for (int i = 1; i <= 60; ++i) ASSERT_TRUE(rig.put(kTable, "k" + std::to_string(i), "1").has_value());
  EXPECT_EQ(rig.store->read().count(static_cast<TableId>(1)), 10u);
  uint64_t seen = 0;
  auto count = [&seen](uint64_t, const std::vector<Change>&) {
    ++seen;
    return true;
  };
  EXPECT_EQ(rig.store->read().changes(49, count).error().code, Code::failed_precondition);
  EXPECT_EQ(seen, 0u);
  EXPECT_TRUE(rig.store->read().changes(50, count).has_value());
  EXPECT_EQ(seen, 10u);
}

TEST(Store, AScanWalksInKeyOrderFromAKeyUntilToldToStop) {
  Rig rig;
  rig.open();
  ChangeSet set;
  for (const char* key : {"d", "b", "a", "c"}) set.put(kTable, as_bytes(key), as_bytes("v"));
  set.put(TableId::agent_svids, as_bytes("other table"), as_bytes("v"));
  ASSERT_TRUE(rig.commit(std::move(set)).has_value());
  auto keys = [&rig](std::string_view from, size_t limit) {
    std::vector<std::string> found;
    auto keep = [&found, limit](BytesView key, BytesView) {
      found.emplace_back(as_text(key));
      return found.size() < limit;
    };
    EXPECT_TRUE(rig.store->read().scan(kTable, as_bytes(from), keep).has_value());
    return found;
  };
  EXPECT_THAT(keys("", 100), ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(keys("b", 2), ElementsAre("b", "c"));
  EXPECT_THAT(keys("ca", 100), ElementsAre("d"));
  EXPECT_THAT(keys("e", 100), ElementsAre());
  EXPECT_EQ(as_text(rig.store->read().last_key(kTable)), "d");
  EXPECT_TRUE(rig.store->read().last_key(TableId::entries).empty());
}

TEST(Store, ASnapshotDoesNotSeeLaterCommits) {
  Rig rig;
  rig.open();
  ASSERT_TRUE(rig.put(kTable, "a", "1").has_value());
  Snapshot before = rig.store->read();
  ASSERT_TRUE(rig.put(kTable, "a", "2").has_value());
  EXPECT_EQ(as_text(*before.get(kTable, as_bytes("a"))), "1");
  EXPECT_EQ(before.revision(), 1u);
  EXPECT_EQ(rig.get(kTable, "a"), "2");
}

TEST(Store, ClosingAnswersEveryChangeSetTruthfully) {
  for (int round = 0; round < 20; ++round) {
    Rig rig;
    rig.open();
    std::vector<Wait> waits(200);
    for (size_t i = 0; i < waits.size(); ++i) {
      ChangeSet set;
      set.put(kTable, as_bytes("k" + std::to_string(i)), as_bytes("v"));
      rig.store->commit(std::move(set), waits[i].done());
      if (i == static_cast<size_t>(round)) rig.loop.run_ready();
    }
    rig.open();
    size_t written = 0;
    for (size_t i = 0; i < waits.size(); ++i) {
      ASSERT_TRUE(waits[i].answer.has_value());
      const bool kept = rig.get(kTable, "k" + std::to_string(i)) == "v";
      EXPECT_EQ(waits[i].answer->has_value(), kept);
      EXPECT_TRUE(kept || waits[i].answer->error().code == Code::cancelled);
      written += kept ? 1 : 0;
    }
    EXPECT_EQ(rig.store->read().revision(), written);
  }
}

TEST(Store, TheStoreMayBeDestroyedByTheOneWhoWaits) {
  struct Owner {
    Rig rig;
    Pending<uint64_t> pending;
    bool told = false;
    void on_done(Result<uint64_t>) {
      told = true;
      rig.store.reset();
    }
  } owner;
  owner.rig.open();
  Wait later;
  ChangeSet a, b;
  a.put(kTable, as_bytes("a"), as_bytes("1"));
  b.put(kTable, as_bytes("b"), as_bytes("1"));
  owner.rig.store->commit(std::move(a), owner.pending.then<&Owner::on_done>(&owner));
  owner.rig.store->commit(std::move(b), later.done());
  owner.rig.store->settle();
  owner.rig.loop.run_ready();
  EXPECT_TRUE(owner.told);
  ASSERT_TRUE(later.answer.has_value());
  EXPECT_TRUE(later.answer->has_value()) << "it was on disk";
}

TEST(Store, AWaiterThatWentAwayIsNotCalled) {
  Rig rig;
  rig.open();
  {
    Wait wait;
    ChangeSet set;
    set.put(kTable, as_bytes("a"), as_bytes("1"));
    rig.store->commit(std::move(set), wait.done());
  }
  rig.store->settle();
  rig.loop.run_ready();
  EXPECT_EQ(rig.get(kTable, "a"), "1");
}

// A committer before the local one: the seam that a replicated log uses.
class Refusing final : public Committer {
 public:
  explicit Refusing(std::unique_ptr<Committer> local) : local_(std::move(local)) {}
  std::vector<Outcome> commit(std::vector<ChangeSet>& group) override {
    if (calls_++ > 0) return local_->commit(group);
    std::vector<Outcome> outcomes;
    for (size_t i = 0; i < group.size(); ++i) outcomes.push_back({fail(Code::unavailable, "no quorum"), {}});
    return outcomes;
  }

 private:
  std::unique_ptr<Committer> local_;
  int calls_ = 0;
};

TEST(Store, AnotherCommitterTakesThePlaceOfTheLocalOne) {
  Rig rig;
  rig.open({.wrap_committer = [](std::unique_ptr<Committer> local) -> std::unique_ptr<Committer> {
    return std::make_unique<Refusing>(std::move(local));
  }});
  auto refused = rig.put(kTable, "a", "1");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "no quorum");
  EXPECT_TRUE(rig.store->read_only());
  EXPECT_EQ(rig.put(kTable, "a", "2"), 1u);
  EXPECT_FALSE(rig.store->read_only());
  EXPECT_EQ(rig.get(kTable, "a"), "2");
}

// Holds the writer until told, so that change sets pile up.
class Held final : public Committer {
 public:
  Held(std::unique_ptr<Committer> local, std::mutex& gate) : local_(std::move(local)), gate_(gate) {}
  std::vector<Outcome> commit(std::vector<ChangeSet>& group) override {
    std::lock_guard wait(gate_);
    sizes.push_back(group.size());
    return local_->commit(group);
  }
  static inline std::vector<size_t> sizes;

 private:
  std::unique_ptr<Committer> local_;
  std::mutex& gate_;
};

TEST(Store, ChangeSetsThatWaitAreCommittedInOneGroupAndTooManyAreRefused) {
  std::mutex gate;
  Held::sizes.clear();
  Rig rig;
  rig.open({.wrap_committer = [&gate](std::unique_ptr<Committer> local) -> std::unique_ptr<Committer> {
    return std::make_unique<Held>(std::move(local), gate);
  }});
  std::vector<Wait> waits(9000);
  gate.lock();
  for (size_t i = 0; i < waits.size(); ++i) {
    ChangeSet set;
    set.put(kTable, as_bytes("k" + std::to_string(i)), as_bytes("v"));
    rig.store->commit(std::move(set), waits[i].done());
  }
  rig.loop.run_ready();
  size_t refused = 0;
  for (const Wait& wait : waits) {
    if (!wait.answer) continue;
    EXPECT_EQ(wait.answer->error().code, Code::resource_exhausted);
    ++refused;
  }
  EXPECT_GE(refused, 9000u - 8192u - 512u);
  gate.unlock();
  rig.store->settle();
  rig.loop.run_ready();
  for (const Wait& wait : waits) EXPECT_TRUE(wait.answer.has_value());
  EXPECT_EQ(rig.store->read().revision(), waits.size() - refused);
  EXPECT_LE(Held::sizes.size(), 20u) << "grouped";
}

TEST(Store, ASecondOpenIsRefusedAndNamesTheHolder) {
  Rig rig;
  rig.open();
  auto second = Store::open(rig.loop, {.path = rig.dir.file()});
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Code::unavailable);
  EXPECT_THAT(second.error().message, HasSubstr("already open in process " + std::to_string(::getpid())));
  EXPECT_EQ(rig.put(kTable, "a", "1"), 1u);
}

TEST(Store, AnErrorAtOpeningNamesThePath) {
  FakeLoop loop;
  TempDir dir;
  auto missing = Store::open(loop, {.path = dir.path() + "/missing/state.mdb"});
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, Code::unavailable);
  EXPECT_THAT(missing.error().message, HasSubstr(dir.path() + "/missing/state.mdb"));
  std::filesystem::create_directory(dir.file());
  auto directory = Store::open(loop, {.path = dir.file()});
  ASSERT_FALSE(directory.has_value());
  EXPECT_EQ(directory.error().code, Code::failed_precondition);
}

}  // namespace
}  // namespace limpet
