// SPDX-License-Identifier: Apache-2.0
// Handshakes with a key outside the process, on a real loop and libuv's workers. The device here answers when the test
// lets it: no clock is measured.
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "crypto/ecdsa.h"
#include "handshake_pairs.h"
#include "test_identity.h"

namespace limpet::wire {
namespace {

// Signs with a key in memory, once the gate is open.
class GatedSigner final : public BlockingSigner {
 public:
  explicit GatedSigner(std::shared_ptr<const PrivateKey> key) : key_(std::move(key)) {}
  Result<Bytes> sign(HashAlg alg, BytesView digest) const override {
    std::unique_lock lock(mutex_);
    most_ = std::max(most_, ++inside_);
    gate_.wait(lock, [&] { return open_; });
    --inside_;
    ++signed_;
    lock.unlock();
    return key_->sign(alg, digest);
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    gate_.notify_all();
  }
  size_t inside() const { return get(inside_); }
  size_t most() const { return get(most_); }
  size_t count() const { return get(signed_); }

 private:
  size_t get(const size_t& value) const {
    const std::lock_guard lock(mutex_);
    return value;
  }
  std::shared_ptr<const PrivateKey> key_;
  mutable std::mutex mutex_;
  mutable std::condition_variable gate_;
  mutable size_t inside_ = 0, most_ = 0, signed_ = 0;
  bool open_ = false;
};

class RemoteKeyTls : public testing::Test {
 protected:
  RemoteKeyTls() {
    const auto mine = make_identity("spiffe://example.org/agent");
    signer = std::make_shared<GatedSigner>(mine->key);
    remote.emplace(mine->key->public_key(), signer);
    auto outside = std::make_shared<TlsIdentity>();
    outside->chain = mine->chain;
    outside->remote_key = mine->key->public_key();
    outside->turns = std::make_shared<RemoteTurns>();
    client_policy.mine = outside;
    server_policy.mine = make_identity("spiffe://example.org/spire/server");
  }
  ~RemoteKeyTls() override { signer->open(); }
  void start(Pair& pair) { pair.start(loop, server_contexts, server_policy, client_policy); }
  UvLoop loop;
  Ticker ticker{loop};
  std::shared_ptr<GatedSigner> signer;
  std::optional<RemoteKey> remote;
  TestPolicy client_policy, server_policy;
  TlsContexts server_contexts;
};

struct Counter {
  void on_done(Result<int>) { ++count; }
  size_t count = 0;
  std::vector<std::unique_ptr<Pending<int>>> pending;
};

TEST_F(RemoteKeyTls, ManyHandshakesAtOneSlowKeyLeaveWorkersAndLoopToOthers) {
  std::vector<std::unique_ptr<Pair>> pairs;
  for (int i = 0; i < 24; ++i) start(*pairs.emplace_back(std::make_unique<Pair>()));
  ticker.run([&] { return signer->inside() == RemoteTurns::kAtOnce; });
  // the device says nothing: everybody else's jobs go on, and so does the loop
  Counter jobs;
  for (int i = 0; i < 50; ++i) {
    auto& pending = jobs.pending.emplace_back(std::make_unique<Pending<int>>());
    loop.work([]() -> Result<int> { return 1; }, pending->then<&Counter::on_done>(&jobs));
  }
  ticker.run([&] { return jobs.count == 50; });
  const size_t before = ticker.turns;
  ticker.run([&] { return ticker.turns > before + 10; });
  EXPECT_EQ(signer->count(), 0u);
  EXPECT_EQ(signer->most(), RemoteTurns::kAtOnce);
  signer->open();
  ticker.run([&] { return all_done(pairs); });
  for (const auto& pair : pairs) {
    ASSERT_TRUE(*pair->client.result) << pair->client.result->error().text();
    ASSERT_TRUE(*pair->server.result) << pair->server.result->error().text();
    EXPECT_EQ((*pair->server.result)->chain, client_policy.mine->chain);
  }
  EXPECT_EQ(signer->most(), RemoteTurns::kAtOnce);
  EXPECT_EQ(signer->count(), pairs.size());
}

TEST_F(RemoteKeyTls, AWorkerThatStillWaitsForTheKeyIsNotLentTwice) {
  std::vector<std::unique_ptr<Pair>> pairs;
  for (int i = 0; i < 6; ++i) start(*pairs.emplace_back(std::make_unique<Pair>()));
  ticker.run([&] { return signer->inside() == RemoteTurns::kAtOnce; });
  pairs.erase(pairs.begin(),
              pairs.begin() + 4);  // given up, whoever of them waits for the device and whoever for a turn
  const size_t before = ticker.turns;
  ticker.run([&] { return ticker.turns > before + 20; });
  EXPECT_EQ(signer->most(), RemoteTurns::kAtOnce);
  signer->open();
  ticker.run([&] { return all_done(pairs); });
  for (const auto& pair : pairs) EXPECT_TRUE(*pair->client.result);
  EXPECT_EQ(signer->most(), RemoteTurns::kAtOnce);
}

TEST_F(RemoteKeyTls, HandshakesThatAreDroppedWithTheLoopLeaveNothingBehind) {
  std::vector<std::unique_ptr<Pair>> pairs;
  for (int i = 0; i < 6; ++i) start(*pairs.emplace_back(std::make_unique<Pair>()));
  ticker.run([&] { return signer->inside() == RemoteTurns::kAtOnce; });
  pairs.clear();
  signer->open();
}

}  // namespace
}  // namespace limpet::wire
