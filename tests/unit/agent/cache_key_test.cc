// SPDX-License-Identifier: Apache-2.0
// The key of the agent's cache: from a file, from a sealer, with a sealer that is away, another one, or back again.
#include "agent/cache_key.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>

#include "agent/svid_row.h"
#include "loop/destroy_at_every_step.h"
#include "loop/fake_loop.h"
#include "store/agent_state.h"

namespace limpet::test {
namespace {

namespace fs = std::filesystem;

// Opens what a device of the same name sealed.
class FakeSealer final : public Sealer {
 public:
  explicit FakeSealer(FakeLoop& loop) : loop_(loop) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  void seal(SecretBytes plain, Bytes context, Done<Bytes> done) override {
    ++calls;
    Bytes blob = to_bytes(device + "/" + std::string(as_text(context)) + "/");
    append(blob, plain.view());
    answer<Bytes>(std::move(blob), std::move(done));
  }
  void unseal(Bytes blob, Bytes context, Done<SecretBytes> done) override {
    ++calls;
    const std::string before = device + "/" + std::string(as_text(context)) + "/";
    if (!as_text(blob).starts_with(before))
      return answer<SecretBytes>(fail(Code::failed_precondition, "another device"), std::move(done));
    answer<SecretBytes>(SecretBytes(BytesView(blob).subspan(before.size())), std::move(done));
  }

  std::string device = "one";
  std::optional<Error> trouble;  // the answer to everything
  int calls = 0;
  std::string name_ = "box";

 private:
  template <class T>
  void answer(Result<T> result, Done<T> done) {
    if (trouble) result = std::unexpected(*trouble);
    loop_.post([d = std::move(done), r = std::move(result)]() mutable { d(std::move(r)); });
  }
  FakeLoop& loop_;
};

// Refuses every change set while `full`.
class FullDisk final : public Committer {
 public:
  FullDisk(std::unique_ptr<Committer> local, const std::atomic<bool>& full) : local_(std::move(local)), full_(full) {}
  std::vector<Outcome> commit(std::vector<ChangeSet>& group) override {
    if (!full_) return local_->commit(group);
    std::vector<Outcome> out(group.size());
    for (Outcome& one : out) one.revision = fail(Code::resource_exhausted, "the disk is full");
    return out;
  }

 private:
  std::unique_ptr<Committer> local_;
  const std::atomic<bool>& full_;
};

struct Rig : agent::CacheKeyClient {
  Rig() {
    folder = fs::temp_directory_path() / ("limpet-cache-key-" + std::to_string(::getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
    StoreOptions options;
    options.path = (folder / "state.mdb").string();
    options.map_bytes = 64u << 20;
    options.check_child = false;
    options.wrap_committer = [this](std::unique_ptr<Committer> local) {
      return std::make_unique<FullDisk>(std::move(local), full);
    };
    store = *Store::open(loop, options);
  }
  ~Rig() override {
    flow.reset();
    store.reset();
    fs::remove_all(folder);
  }
  void on_cache_key(SecretBytes given) override { key = std::move(given); }
  void on_cache_key_away() override { ++away; }

  // A new start of the agent, until it has the key or `turns` tries went by.
  void start(Sealer* with) {
    begin(with);
    settle();
  }
  void begin(Sealer* with) {
    flow.reset();
    key = {};
    away = 0;
    health = Health();
    flow = std::make_unique<agent::CacheKey>(
        agent::CacheKeyParts{loop, *store, Logger::none(), health, with, key_file(), *this});
    started = flow->start();
  }
  void settle() {
    for (int i = 0; i < 4; ++i) {
      loop.run_ready();
      store->settle();
    }
    loop.run_ready();
  }
  [[nodiscard]] std::string key_file() const { return (folder / "seal.key").string(); }
  void commit(ChangeSet changes) {
    store->commit(std::move(changes), Done<uint64_t>());
    settle();
  }
  void put_entry(const std::string& id) {
    ChangeSet changes;
    changes.put(TableId::agent_entries, as_bytes(id), Bytes{1});
    commit(std::move(changes));
  }
  // An SVID whose key is `secret`, sealed with the key at hand.
  void put_row(const std::string& id, std::string_view secret) {
    agent::CachedSvid svid;
    svid.chain = {1};
    svid.not_after = 1;
    svid.key = SecretBytes(as_bytes(secret));
    ChangeSet changes;
    changes.put(TableId::agent_svids, as_bytes(id), *agent::encode_svid_row(key, as_bytes(id), svid));
    commit(std::move(changes));
  }
  [[nodiscard]] std::string row(const std::string& id) const {
    const Snapshot snapshot = store->read();
    const auto bytes = snapshot.get(TableId::agent_svids, as_bytes(id));
    if (!bytes) return "none";
    const auto svid = agent::decode_svid_row(key, as_bytes(id), *bytes);
    return svid ? std::string(as_text((*svid)->key.view())) : svid.error().text();
  }
  [[nodiscard]] size_t aside() const { return read_keys_aside(store->read()).size(); }
  [[nodiscard]] std::string told() const {
    const auto part = health.parts().find("sealer");
    if (part == health.parts().end()) return "nothing";
    return part->second.state == HealthState::ok ? "ok" : part->second.reason;
  }

  FakeLoop loop;
  Health health;
  fs::path folder;
  std::atomic<bool> full = false;
  std::unique_ptr<Store> store;
  SecretBytes key;
  int away = 0;
  Result<void> started;
  std::unique_ptr<agent::CacheKey> flow;
};

struct CacheKeyTest : ::testing::Test, Rig {
  FakeSealer sealer{loop};
};

TEST_F(CacheKeyTest, WithoutASealerItIsInTheFileAtOnce) {
  begin(nullptr);
  EXPECT_EQ(key.size(), 32u) << "within start()";
  EXPECT_TRUE(fs::exists(key_file()));
  EXPECT_EQ(told(), "nothing");
  const Bytes first = to_bytes(key.view());
  begin(nullptr);
  EXPECT_EQ(to_bytes(key.view()), first);
  std::ofstream(key_file(), std::ios::trunc) << "short";
  begin(nullptr);
  EXPECT_EQ(started.error().code, Code::data_loss);
}

TEST_F(CacheKeyTest, ASealerKeepsItAndNoFileIsMade) {
  start(&sealer);
  ASSERT_EQ(key.size(), 32u);
  EXPECT_FALSE(fs::exists(key_file()));
  EXPECT_EQ(told(), "ok");
  const Bytes first = to_bytes(key.view());
  start(&sealer);
  EXPECT_EQ(to_bytes(key.view()), first);
  EXPECT_EQ(sealer.calls, 2) << "one to seal, one to open";
}

TEST_F(CacheKeyTest, ANewSealerTakesOverWhatTheFileSealedAndTheFileGoes) {
  start(nullptr);
  put_row("a", "the key of a");
  const Bytes in_file = to_bytes(key.view());
  start(&sealer);
  EXPECT_NE(to_bytes(key.view()), in_file) << "a key that lay in the clear is not used on";
  EXPECT_EQ(row("a"), "the key of a");
  EXPECT_FALSE(fs::exists(key_file()));
  start(&sealer);
  EXPECT_EQ(row("a"), "the key of a");
}

TEST_F(CacheKeyTest, AFileThatCannotBeReadIsLeftAlone) {
  std::ofstream(key_file()) << "short";
  start(&sealer);
  EXPECT_EQ(key.size(), 32u);
  EXPECT_TRUE(fs::exists(key_file()));
}

TEST_F(CacheKeyTest, AnotherDeviceCostsTheSvidsAndTheOldOneBringsThemBack) {
  start(&sealer);
  put_entry("a");
  put_row("a", "the key of a");
  put_row("gone", "of an entry that will not be there");
  sealer.device = "two";
  start(&sealer);
  ASSERT_EQ(key.size(), 32u);
  EXPECT_EQ(row("a"), "none");
  EXPECT_EQ(aside(), 1u);
  EXPECT_EQ(told(), "cached SVIDs (2) cannot be opened: another device");
  flow->on_rebuilt();
  EXPECT_EQ(told(), "ok");
  put_row("a", "a newer key of a");
  start(&sealer);
  EXPECT_EQ(told(), "ok") << "the next start has its own key";
  EXPECT_EQ(row("a"), "a newer key of a");
  sealer.device = "one";
  start(&sealer);
  EXPECT_EQ(row("a"), "the key of a");
  EXPECT_EQ(row("gone"), "none");
  EXPECT_EQ(aside(), 1u) << "now those of the second device are aside";
  EXPECT_EQ(told(), "ok");
  sealer.device = "two";
  start(&sealer);
  EXPECT_EQ(row("a"), "a newer key of a");
}

TEST_F(CacheKeyTest, WithoutAnyRowNothingIsLost) {
  start(&sealer);
  sealer.device = "two";
  start(&sealer);
  EXPECT_EQ(key.size(), 32u);
  EXPECT_EQ(aside(), 0u);
  EXPECT_EQ(told(), "ok");
}

TEST_F(CacheKeyTest, ASealerThatIsAwayIsAskedAgainAndNothingIsSetAside) {
  start(&sealer);
  put_row("a", "the key of a");
  sealer.trouble = Error{Code::unavailable, "no such device"};
  start(&sealer);
  EXPECT_TRUE(started);
  EXPECT_TRUE(key.empty());
  EXPECT_EQ(away, 1);
  EXPECT_EQ(told(), "Unavailable: no such device");
  sealer.calls = 0;
  for (int i = 0; i < 5; ++i) loop.run_next_timer(), settle();
  EXPECT_EQ(sealer.calls, 5);
  EXPECT_EQ(away, 1) << "once";
  EXPECT_TRUE(key.empty());
  sealer.trouble.reset();
  loop.run_next_timer();
  settle();
  EXPECT_EQ(row("a"), "the key of a");
  EXPECT_EQ(aside(), 0u);
  EXPECT_EQ(told(), "ok");
}

TEST_F(CacheKeyTest, AKeyIsNotUsedBeforeItIsOnDisk) {
  full = true;
  start(&sealer);
  EXPECT_TRUE(key.empty());
  EXPECT_EQ(away, 1);
  EXPECT_EQ(told(), "ResourceExhausted: the disk is full");
  full = false;
  loop.run_next_timer();
  settle();
  EXPECT_EQ(key.size(), 32u);
  EXPECT_EQ(told(), "ok");
}

TEST_F(CacheKeyTest, OnlyFailedPreconditionMeansNever) {
  start(&sealer);
  put_row("a", "the key of a");
  for (const Code code : {Code::permission_denied, Code::internal, Code::deadline_exceeded, Code::not_found}) {
    sealer.trouble = Error{code, "hm"};
    start(&sealer);
    EXPECT_EQ(aside(), 0u) << static_cast<int>(code);
    EXPECT_TRUE(told().ends_with(": hm")) << told();
  }
}

TEST_F(CacheKeyTest, ASealerThatIsAwayAtTheFirstStartIsWaitedForToo) {
  sealer.trouble = Error{Code::unavailable, "no such device"};
  start(&sealer);
  EXPECT_TRUE(key.empty());
  EXPECT_EQ(away, 1);
  sealer.trouble.reset();
  loop.run_next_timer();
  settle();
  EXPECT_EQ(key.size(), 32u);
}

TEST_F(CacheKeyTest, ASealerThatIsConfiguredNoMoreLeavesItsKeyAside) {
  start(&sealer);
  put_entry("a");
  put_row("a", "the key of a");
  start(nullptr);
  ASSERT_EQ(key.size(), 32u);
  EXPECT_EQ(told(), "cached SVIDs (1) cannot be opened: the sealer \"box\" has it, and none is configured");
  EXPECT_EQ(aside(), 1u);
  FakeSealer other(loop);
  other.name_ = "chest";
  fs::remove(key_file());
  start(&other);
  EXPECT_EQ(aside(), 1u);
  start(&sealer);
  EXPECT_EQ(row("a"), "the key of a") << "the first sealer's key is found again";
}

TEST_F(CacheKeyTest, ASecretOfAnotherSizeIsNoKey) {
  sealer.device = "";
  start(&sealer);
  put_row("a", "the key of a");
  ChangeSet changes;
  put_sealed_key(changes, {"box", to_bytes("/limpet agent cache key 1/short")});
  commit(std::move(changes));
  start(&sealer);
  EXPECT_EQ(key.size(), 32u);
  EXPECT_EQ(told(), "cached SVIDs (1) cannot be opened: what the sealer opened is no key of 32 bytes");
}

TEST_F(CacheKeyTest, ADamagedRecordCostsNoMoreThanTheSvids) {
  ChangeSet changes;
  put_agent_blob(changes, "sealed-key", Bytes{0xff, 0xff});
  commit(std::move(changes));
  start(&sealer);
  EXPECT_EQ(key.size(), 32u);
}

TEST_F(CacheKeyTest, AtMostFourKeysAreKeptAside) {
  for (const char* device : {"a", "b", "c", "d", "e", "f"}) {
    sealer.device = device;
    start(&sealer);
    put_entry("x");
    put_row("x", device);
  }
  EXPECT_EQ(aside(), kKeysAside);
  sealer.device = "b";
  start(&sealer);
  EXPECT_EQ(row("x"), "b") << "the oldest of the four is still there";
  sealer.device = "a";
  start(&sealer);
  EXPECT_EQ(row("x"), "none");
}

TEST(CacheKeyFlow, MayBeDestroyedAtEachOfItsSteps) {
  struct Scenario : agent::CacheKeyClient {
    explicit Scenario(FakeLoop& loop) : sealer(loop) {
      folder = fs::temp_directory_path() / ("limpet-cache-flow-" + std::to_string(::getpid()));
      fs::remove_all(folder);
      fs::create_directories(folder);
      StoreOptions options;
      options.path = (folder / "state.mdb").string();
      options.map_bytes = 16u << 20;
      options.check_child = false;
      store = *Store::open(loop, options);
      ChangeSet changes;
      put_sealed_key(changes, {"box", to_bytes("of another device")});
      changes.put(TableId::agent_svids, as_bytes("a"), Bytes{1});
      store->commit(std::move(changes), Done<uint64_t>());
      store->settle();
      flow = std::make_unique<agent::CacheKey>(
          agent::CacheKeyParts{loop, *store, Logger::none(), health, &sealer, (folder / "seal.key").string(), *this});
      EXPECT_TRUE(flow->start());
    }
    ~Scenario() override {
      flow.reset();
      store.reset();
      fs::remove_all(folder);
    }
    void on_cache_key(SecretBytes) override {}
    void on_cache_key_away() override {}
    fs::path folder;
    Health health;
    FakeSealer sealer;
    std::unique_ptr<Store> store;
    std::unique_ptr<agent::CacheKey> flow;
  };
  EXPECT_GE(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<Scenario>(loop); }), 3u);
}

}  // namespace
}  // namespace limpet::test
