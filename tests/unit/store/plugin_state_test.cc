// SPDX-License-Identifier: Apache-2.0
// Private state of plugins: kept apart by owner, exact in number, in the order asked, and on disk when it says so.
#include "store/plugin_state.h"

#include "store_rig.h"

namespace limpet {
namespace {

struct Asked {
  Done<Bytes> done() { return pending.then<&Asked::on>(this); }
  void on(Result<Bytes> result) { said = result ? "<" + std::string(as_text(*result)) + ">" : result.error().text(); }
  Pending<Bytes> pending;
  std::string said = "waiting";
};

struct PluginStates : ::testing::Test {
  void SetUp() override {
    rig.open();
    state.emplace(rig.loop, *rig.store, 3);
  }
  void settle() {
    for (int turn = 0; turn < 100; ++turn) {
      rig.loop.advance(1);
      rig.store->settle();
      rig.loop.run_ready();
    }
  }
  std::string get(const std::string& owner, const std::string& key) {
    Asked asked;
    state->get(owner, key, asked.done());
    settle();
    return asked.said;
  }
  std::string put(const std::string& owner, const std::string& key, std::string_view value) {
    Asked asked;
    state->put(owner, key, to_bytes(value), asked.done());
    settle();
    return asked.said;
  }
  std::string remove(const std::string& owner, const std::string& key) {
    Asked asked;
    state->remove(owner, key, asked.done());
    settle();
    return asked.said;
  }

  Rig rig;
  std::optional<PluginState> state;
};

TEST_F(PluginStates, WhatWasPutIsThereAfterARestartAndGoneAfterARemove) {
  EXPECT_EQ(get("a", "k"), "NotFound: no such key");
  EXPECT_EQ(put("a", "k", "one"), "<>");
  EXPECT_EQ(put("a", "k", "two"), "<>");
  EXPECT_EQ(put("a", "empty", ""), "<>");
  state.reset();
  rig.open();
  state.emplace(rig.loop, *rig.store, 3);
  EXPECT_EQ(get("a", "k"), "<two>");
  EXPECT_EQ(get("a", "empty"), "<>");
  EXPECT_EQ(remove("a", "k"), "<>");
  EXPECT_EQ(remove("a", "k"), "<>");
  EXPECT_EQ(get("a", "k"), "NotFound: no such key");
}

TEST_F(PluginStates, OwnersDoNotSeeEachOther) {
  EXPECT_EQ(put("a", "k", "mine"), "<>");
  EXPECT_EQ(get("b", "k"), "NotFound: no such key");
  EXPECT_EQ(put("b", "k", "yours"), "<>");
  EXPECT_EQ(remove("b", "k"), "<>");
  EXPECT_EQ(get("a", "k"), "<mine>");
  EXPECT_EQ(put("a", "x/k", "with a slash"), "<>");
  EXPECT_EQ(get("a", "x/k"), "<with a slash>");
}

TEST_F(PluginStates, AKeyTooManyIsRefusedAndOnlyThat) {
  for (const char* key : {"1", "2", "3"}) EXPECT_EQ(put("a", key, "v"), "<>");
  EXPECT_EQ(put("a", "4", "v"), "ResourceExhausted: a keeps 3 keys already; remove some that are no longer needed");
  EXPECT_EQ(put("a", "3", "new"), "<>");
  EXPECT_EQ(put("b", "4", "v"), "<>");
  EXPECT_EQ(remove("a", "5"), "<>");  // was not there: makes no room
  EXPECT_EQ(put("a", "4", "v").substr(0, 17), "ResourceExhausted");
  EXPECT_EQ(remove("a", "1"), "<>");
  EXPECT_EQ(put("a", "4", "v"), "<>");
  EXPECT_EQ(put("a", "1", "v").substr(0, 17), "ResourceExhausted");
}

TEST_F(PluginStates, RequestsAreDoneInTheOrderTheyCame) {
  Asked all[7];
  state->put("a", "1", to_bytes("x"), all[0].done());
  state->get("a", "1", all[1].done());
  state->put("a", "2", {}, all[2].done());
  state->put("a", "3", {}, all[3].done());
  state->put("a", "4", {}, all[4].done());
  state->remove("a", "1", all[5].done());
  state->put("a", "4", {}, all[6].done());
  for (const Asked& asked : all) EXPECT_EQ(asked.said, "waiting");
  settle();
  const char* expected[] = {"<>", "<x>", "<>", "<>", "ResourceExhausted", "<>", "<>"};
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(all[i].said.substr(0, 17), expected[i]) << i;
}

TEST_F(PluginStates, APutNobodyWaitsForStillHappens) {
  {
    Asked gone;
    state->put("a", "k", to_bytes("kept"), gone.done());
  }
  EXPECT_EQ(get("a", "k"), "<kept>");
}

TEST_F(PluginStates, MayEndAtEveryMoment) {
  for (int steps = 0; steps < 6; ++steps) {
    Asked first, second;
    state.emplace(rig.loop, *rig.store, 3);
    state->put("a", "k", to_bytes("v"), first.done());
    state->get("a", "k", second.done());
    for (int i = 0; i < steps; ++i) {
      rig.loop.advance(1);
      rig.store->settle();
    }
    state.reset();
    settle();
    EXPECT_NE(first.said, "waiting") << steps;
    EXPECT_NE(second.said, "waiting") << steps;
  }
}

TEST_F(PluginStates, AnErrorOfTheStoreReachesTheOneWhoWaits) {
  EXPECT_EQ(put("a", std::string(600, 'k'), "v").substr(0, 15), "InvalidArgument");
  EXPECT_EQ(put("a", "k", "v"), "<>");  // and holds up nobody
}

}  // namespace
}  // namespace limpet
