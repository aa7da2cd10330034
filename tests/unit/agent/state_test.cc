// SPDX-License-Identifier: Apache-2.0
// The agent's state on disk: what was saved is there after a restart, sealed; what cannot be read costs only itself.
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/cache_key.h"
#include "agent/state_writer.h"
#include "fakes.h"

namespace limpet::test {
namespace {

namespace fs = std::filesystem;

class AgentState : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("limpet-agent-state-" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    open();
  }
  void TearDown() override {
    close();
    fs::remove_all(folder_);
  }
  void open(const char* key_file = "seal.key") {
    StoreOptions options;
    options.path = (folder_ / "state.mdb").string();
    options.map_bytes = 64u << 20;
    options.check_child = false;
    store_ = *Store::open(loop_, options);
    cache_ = std::make_unique<agent::IdentityCache>();
    writer_ = std::make_unique<agent::StateWriter>(*store_, Logger::none(), health_, *cache_,
                                                   *TrustDomain::parse("example.org"));
    seal_key_ = *agent::load_seal_key((folder_ / key_file).string());
  }
  // What was stored; the SVIDs come with the key.
  agent::KeptState load() {
    agent::KeptState kept = writer_->load();
    lost_svids_ = writer_->unlock(std::move(seal_key_));
    return kept;
  }
  void close() {
    writer_.reset();
    store_.reset();
  }
  // The store's writer thread posts to the loop when a commit is on disk; a commit of ours waits behind all others.
  void flush() {
    struct Waiter {
      void on(Result<uint64_t> r) {
        done = true;
        ok = r.has_value();
      }
      bool done = false, ok = false;
      Pending<uint64_t> pending;
    } waiter;
    for (int i = 0; i < 3; i++) {  // a write may start another one
      waiter.done = false;
      ChangeSet changes;
      changes.put(TableId::agent_state, as_bytes("flush"), Bytes{1});
      store_->commit(std::move(changes), waiter.pending.then<&Waiter::on>(&waiter));
      while (!waiter.done) {
        loop_.run_ready();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      EXPECT_TRUE(waiter.ok);
    }
  }
  void put(const std::string& id) {
    Entry entry = make_entry(id, "/" + id, {{"unix", "uid:1"}});
    entry.federates_with = {"other.org"};
    entry.hint = "h";
    cache_->put_entry(entry);
    auto svid = std::make_unique<agent::CachedSvid>();
    const Certificate leaf = make_leaf(make_root());
    svid->chain = leaf.der;
    svid->key = SecretBytes(as_bytes("the key of " + id));
    svid->created_at = 100;
    svid->not_before = leaf.not_before;
    svid->not_after = leaf.not_after;
    cache_->put_svid(*cache_->find(id), std::move(svid));
  }
  void save_two() {
    load();
    put("a");
    put("b");
    writer_->save_entries({"a", "b"});
    writer_->save_svids({"a", "b"});
    writer_->save_synced();
    writer_->save_time(kNow);
    flush();
  }
  bool on_disk(std::string_view text) {
    std::ifstream in(folder_ / "state.mdb", std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(in), {}};
    return all.find(text) != std::string::npos;
  }

  fs::path folder_;
  FakeLoop loop_;
  Health health_;
  std::unique_ptr<Store> store_;
  SecretBytes seal_key_;
  std::vector<std::string> lost_svids_;
  std::unique_ptr<agent::IdentityCache> cache_;
  std::unique_ptr<agent::StateWriter> writer_;
};

TEST_F(AgentState, IsEmptyAtFirst) {
  const agent::KeptState kept = load();
  EXPECT_FALSE(kept.svid || kept.bundle || kept.synced);
  EXPECT_TRUE(kept.lost.empty());
}

TEST_F(AgentState, SurvivesARestartWithKeysSealed) {
  save_two();
  close();
  open();
  const agent::KeptState kept = load();
  EXPECT_TRUE(kept.synced);
  EXPECT_EQ(kept.time, kNow);
  EXPECT_TRUE(kept.lost.empty());
  ASSERT_EQ(cache_->svids(), 2u);
  const agent::Identity& a = *cache_->find("a");
  EXPECT_EQ(as_text(a.svid->key.view()), "the key of a");
  EXPECT_EQ(a.svid->not_after, kNow + 3600);
  EXPECT_TRUE(a.current());
  EXPECT_EQ(a.entry.federates_with, std::vector<std::string>{"other.org"});
  EXPECT_EQ(a.entry.hint, "h");
  EXPECT_TRUE(on_disk("spiffe://example.org/a") || on_disk("/a"));
  EXPECT_FALSE(on_disk("the key of")) << "no workload key in the clear";
}

// What was saved while another change set was under way, too.
TEST_F(AgentState, IsSettledWhenAllOfItIsOnDisk) {
  struct Waiter {
    void on(Result<void> /*settled*/) { done = true; }
    bool done = false;
    Pending<void> pending;
  } waiter;
  load();
  EXPECT_TRUE(writer_->settled());
  put("a");
  put("b");
  writer_->save_entries({"a", "b"});
  writer_->save_svids({"a"});
  writer_->save_svids({"b"});
  EXPECT_FALSE(writer_->settled());
  writer_->tell_settled(waiter.pending.then<&Waiter::on>(&waiter));
  for (int i = 0; i < 10'000 && !waiter.done; ++i) {
    loop_.run_ready();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(waiter.done);
  EXPECT_TRUE(writer_->settled());
  close();
  open();
  load();
  EXPECT_EQ(cache_->svids(), 2u);
}

TEST_F(AgentState, ForgetsWhatTheServerTookBack) {
  save_two();
  cache_->remove_entry("a");
  writer_->save_entries({"a"});
  flush();
  close();
  open();
  load();
  EXPECT_EQ(cache_->find("a"), nullptr);
  EXPECT_NE(cache_->find("b"), nullptr);
  EXPECT_FALSE(on_disk("the key of"));
}

TEST_F(AgentState, ALostSealKeyCostsTheWorkloadKeysOnly) {
  save_two();
  close();
  open("another.key");
  const agent::KeptState kept = load();
  EXPECT_TRUE(kept.lost.empty());
  EXPECT_EQ(lost_svids_.size(), 2u);
  EXPECT_NE(cache_->find("a"), nullptr);
  EXPECT_EQ(cache_->svids(), 0u);
}

TEST_F(AgentState, WithoutTheKeySvidsWaitAndTheRestIsWritten) {
  save_two();
  close();
  open();
  writer_->load();
  EXPECT_EQ(cache_->svids(), 0u);
  ASSERT_NE(cache_->find("a"), nullptr);
  put("a");
  put("c");
  writer_->save_entries({"a", "c"});
  writer_->save_svids({"a", "c"});
  flush();
  EXPECT_FALSE(store_->read().get(TableId::agent_svids, as_bytes("c"))) << "not in the clear, and not unsealed";
  EXPECT_TRUE(store_->read().get(TableId::agent_entries, as_bytes("c")));
  const auto* newer = cache_->find("a")->svid.get();
  EXPECT_TRUE(writer_->unlock(std::move(seal_key_)).empty());
  EXPECT_EQ(cache_->find("a")->svid.get(), newer) << "what came meanwhile is newer";
  EXPECT_NE(cache_->find("b")->svid, nullptr);
  flush();
  EXPECT_TRUE(store_->read().get(TableId::agent_svids, as_bytes("c")));
  close();
  open();
  load();
  EXPECT_EQ(cache_->svids(), 3u);
}

TEST_F(AgentState, KeepsTheOwnSvidAndEveryBundle) {
  FakeServer server(loop_);
  Bundle other = server.bundle;
  other.trust_domain = *TrustDomain::parse("other.org");
  struct Waiter {
    void on(Result<void> r) { ok = r.has_value(); }
    bool ok = false;
    Pending<void> pending;
  } waiter;
  const AgentSvid svid{{Bytes{1, 2}, Bytes{3}}, "agent-svid-B", true};
  writer_->save_identity(svid, server.bundle, waiter.pending.then<&Waiter::on>(&waiter));
  flush();
  EXPECT_TRUE(waiter.ok);
  cache_->put_bundle(server.bundle);
  cache_->put_bundle(other);
  writer_->save_bundles();
  flush();
  close();
  open();
  const agent::KeptState kept = load();
  EXPECT_EQ(kept.svid, svid);
  EXPECT_EQ(kept.bundle, server.bundle);
  ASSERT_NE(cache_->bundle("other.org"), nullptr);
  EXPECT_EQ(cache_->bundle("other.org")->bundle, other);
}

TEST_F(AgentState, TheSealKeyIsForItsOwnerOnlyAndMadeOnce) {
  const std::string path = (folder_ / "seal.key").string();
  struct stat info = {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const auto first = agent::load_seal_key(path);
  const auto second = agent::load_seal_key(path);
  EXPECT_EQ(to_bytes(first->view()), to_bytes(second->view()));
  std::ofstream(path, std::ios::trunc) << "short";
  EXPECT_EQ(agent::load_seal_key(path).error().code, Code::data_loss);
  EXPECT_EQ(agent::load_seal_key((folder_ / "none/seal.key").string()).error().code, Code::unavailable);
}

}  // namespace
}  // namespace limpet::test
