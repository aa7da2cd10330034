// SPDX-License-Identifier: Apache-2.0
// Many TLS handshakes at once with one key that is in a TPM of 200 ms a command, through the ECDSA seam and key manager
// "tpm2", in process and through the shim. Neither the loop nor libuv's workers may be the TPM's. No clock is looked
// at: what counts is what came before what.
#include <atomic>
#include <filesystem>

#include "crypto/ecdsa.h"
#include "plugin/shimmed.h"
#include "swtpm.h"
#include "tpm_proxy.h"
#include "wire/handshake_pairs.h"
#include "wire/test_identity.h"

namespace limpet::wire {
namespace {

constexpr size_t kHandshakes = 24;
constexpr size_t kJobs = 50;
constexpr size_t kWorkers = 2;  // of libuv's four may wait for the TPM
constexpr size_t kEarly = 6;    // a quarter of the TPM's work: by then everybody else must be done
constexpr size_t kHalf =
    12;  // from here on the TPM is quick: all of it slow would come near to the 20 s of a handshake
constexpr size_t kTicks = 50;  // of a few hundred that there is time for

// Counts who waits for the TPM.
class CountingSigner final : public BlockingSigner {
 public:
  explicit CountingSigner(std::shared_ptr<const BlockingSigner> signer) : signer_(std::move(signer)) {}
  Result<Bytes> sign(HashAlg alg, BytesView digest) const override {
    const size_t now = ++inside_;
    for (size_t before = most_; before < now && !most_.compare_exchange_weak(before, now);) {
    }
    auto signature = signer_->sign(alg, digest);
    --inside_;
    ++count_;
    return signature;
  }
  [[nodiscard]] size_t inside() const { return inside_; }
  [[nodiscard]] size_t most() const { return most_; }
  [[nodiscard]] size_t count() const { return count_; }

 private:
  std::shared_ptr<const BlockingSigner> signer_;
  mutable std::atomic<size_t> inside_ = 0, most_ = 0, count_ = 0;
};

// Jobs for the workers, each asked for when the one before it is done: where none is free, each of them waits.
struct JobChain {
  explicit JobChain(UvLoop& l) : loop(l) {}
  void next() {
    loop.work([]() -> Result<int> { return 1; }, pending.then<&JobChain::on_done>(this));
  }
  void on_done(Result<int>) {
    if (++done < kJobs) next();
  }
  UvLoop& loop;
  Pending<int> pending;
  size_t done = 0;
};

std::shared_ptr<TlsIdentity> identity_of(const ManagedKey& managed) {
  const auto issuer = PrivateKey::generate(KeyType::ec_p256);
  CertificateTemplate cert;
  cert.serial = random_serial();
  cert.subject = cert.issuer = encode_name({{kOidOrganization, "SPIFFE"}});
  cert.not_after = 4'000'000'000;
  cert.spki = managed.key.spki();
  cert.key_usage = kDigitalSignature;
  cert.server_and_client_auth = true;
  cert.uris = {"spiffe://example.org/agent"};
  const Bytes tbs = encode_tbs(cert, KeyType::ec_p256, HashAlg::sha256);
  auto out = std::make_shared<TlsIdentity>();
  out->chain = {seal_certificate(tbs, KeyType::ec_p256, HashAlg::sha256, *issuer->sign(HashAlg::sha256, sha256(tbs)))};
  out->remote_key = managed.key;
  out->turns = std::make_shared<RemoteTurns>();
  return out;
}

class SlowTpm : public test::ShimTest, public ::testing::WithParamInterface<const char*> {
 protected:
  SlowTpm() { EXPECT_NE(::mkdtemp(directory_.data()), nullptr); }
  ~SlowTpm() override {
    remote_.reset();
    keys_.reset();
    proxy_.reset();
    tpm_.reset();
    std::filesystem::remove_all(directory_);
  }
  void SetUp() override {
    if (!test::SwTpm::there()) GTEST_SKIP() << "swtpm is not installed";
    tpm_ = std::make_unique<test::SwTpm>(directory_ + "/tpm");
    ASSERT_TRUE(tpm_->start());
    proxy_ = std::make_unique<test::TpmProxy>(directory_ + "/slow", tpm_->socket(), [this](uint32_t) {
      std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms_));
      ++commands_;
      return std::optional<Bytes>();
    });
    auto instance = created();
    ASSERT_TRUE(instance) << instance.error().text();
    const auto configured = configure(
        **instance, R"({"device":"swtpm:path=)" + directory_ + R"(/slow","directory":")" + directory_ + "/keys\"}");
    ASSERT_TRUE(configured) << configured.error().text();
    keys_ = make_key_manager(*instance);
    test::Await<ManagedKey> made(loop_);
    keys_->generate("agent-svid-A", KeyType::ec_p256, made.done());
    const auto key = made.get();
    ASSERT_TRUE(key) << key.error().text();
    signer_ = std::make_shared<CountingSigner>(keys_->blocking_signer(*key));
    remote_.emplace(key->key, signer_);
    client_policy_.mine = identity_of(*key);
    server_policy_.mine = make_identity("spiffe://example.org/spire/server");
    pause_ms_ = 200;
  }
  Result<std::shared_ptr<Instance>> created() {
    const std::string path = LIMPET_PLUGINS "/key_manager_tpm2.so";
    if (std::string(GetParam()) == "shim") return open(LIMPET_KEY_MANAGER, path, "tpm2");
    TRY_ASSIGN(const limpet_plugin* plugin, load_plugin_file(path, test::digest_of_file(path)));
    return Instance::create({loop_, *logger_, "example.org", {}}, *find_component(*plugin, LIMPET_KEY_MANAGER, "tpm2"),
                            "test");
  }

  std::string directory_ = ::testing::TempDir() + "limpet_slow_tpm_XXXXXX";
  std::atomic<int> pause_ms_ = 0;
  std::atomic<size_t> commands_ = 0;
  std::unique_ptr<test::SwTpm> tpm_;
  std::unique_ptr<test::TpmProxy> proxy_;
  std::unique_ptr<KeyManager> keys_;
  std::shared_ptr<CountingSigner> signer_;
  std::optional<RemoteKey> remote_;
  TestPolicy client_policy_, server_policy_;
  TlsContexts server_contexts_;
};

TEST_P(SlowTpm, ManyHandshakesAtOnceLeaveLoopAndWorkersToOthers) {
  struct Seen {
    size_t jobs = 0, ticks = 0;
  };
  Ticker ticker(loop_, 10);
  JobChain jobs(loop_);
  std::vector<Seen> at_end;  // of each handshake, in the order in which they ended
  std::vector<std::unique_ptr<Pair>> pairs;
  const size_t commands_before = commands_;
  for (size_t i = 0; i < kHandshakes; ++i) {
    Pair& pair = *pairs.emplace_back(std::make_unique<Pair>());
    pair.client.told = [&] {
      at_end.push_back({jobs.done, ticker.turns});
      if (at_end.size() == kHalf) pause_ms_ = 0;
    };
    pair.start(loop_, server_contexts_, server_policy_, client_policy_);
  }
  ticker.run([&] { return signer_->inside() == kWorkers || !at_end.empty(); });
  EXPECT_TRUE(at_end.empty());
  const size_t ticks_before = ticker.turns;
  jobs.next();
  ticker.run([&] { return all_done(pairs) && jobs.done == kJobs; });

  ASSERT_EQ(at_end.size(), kHandshakes);
  EXPECT_EQ(at_end[kEarly - 1].jobs, kJobs) << "the workers were the TPM's";
  EXPECT_GE(at_end[kEarly - 1].ticks, ticks_before + kTicks) << "the loop was the TPM's";
  EXPECT_EQ(signer_->most(), kWorkers);
  EXPECT_EQ(signer_->count(), kHandshakes);
  EXPECT_GE(commands_ - commands_before, kHandshakes) << "each signature was the TPM's";
  for (const auto& pair : pairs) {
    ASSERT_TRUE(*pair->client.result) << pair->client.result->error().text();
    ASSERT_TRUE(*pair->server.result) << pair->server.result->error().text();
    EXPECT_EQ((*pair->server.result)->chain, client_policy_.mine->chain);
  }
  RecordProperty("commands", static_cast<int>(commands_ - commands_before));
  RecordProperty("ticks_before_the_early_ones", static_cast<int>(at_end[kEarly - 1].ticks - ticks_before));
}

INSTANTIATE_TEST_SUITE_P(Both, SlowTpm, ::testing::Values("in_process", "shim"),
                         [](const auto& carrier) { return std::string(carrier.param); });

}  // namespace
}  // namespace limpet::wire
