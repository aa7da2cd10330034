// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the server's tests share: a whole server core on a fake loop, a key manager in memory, calls made by hand. The
// store is real, in a directory that goes away with the test; its commits are waited for.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loop/fake_loop.h"
#include "proto/spire_agent.pb.h"
#include "server/server_core.h"

namespace limpet::server::test {

inline constexpr int64_t kStart = 1'795'312'835;  // 2026-11-22T02:00:35Z
inline constexpr const char* kDomain = "example.org";

// Keys are dear to make under sanitizers: a few for the whole process.
inline const PrivateKey& some_key(size_t which = 0) {
  static std::map<size_t, PrivateKey> keys;
  auto found = keys.find(which);
  if (found == keys.end()) found = keys.emplace(which, std::move(*PrivateKey::generate(KeyType::ec_p256))).first;
  return found->second;
}
inline PrivateKey copy_key(const PrivateKey& key) { return std::move(*PrivateKey::from_pkcs8(key.pkcs8().view())); }

class FakeKeyManager final : public KeyManager {
 public:
  explicit FakeKeyManager(Loop& loop) : loop_(loop) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  void generate(const std::string& id, KeyType, Done<ManagedKey> done) override {
    if (!failure.empty()) return answer(std::move(done), Result<ManagedKey>(fail(failure_code, failure)));
    keys.insert_or_assign(id, copy_key(some_key(100 + generated++)));
    answer(std::move(done), Result<ManagedKey>(managed(id)));
  }
  void list(Done<std::vector<ManagedKey>> done) override {
    if (!list_failure.empty())
      return answer(std::move(done), Result<std::vector<ManagedKey>>(fail(failure_code, list_failure)));
    std::vector<ManagedKey> all;
    for (auto& [id, key] : keys) all.push_back(managed(id));
    answer(std::move(done), Result<std::vector<ManagedKey>>(std::move(all)));
  }
  void sign_pss(const ManagedKey&, HashAlg, int32_t, Bytes, Done<Bytes>) override {}
  void sign(const ManagedKey& key, HashAlg alg, Bytes digest, Done<Bytes> done) override {
    auto found = keys.find(key.id);
    if (!sign_failure.empty()) return answer(std::move(done), Result<Bytes>(fail(Code::unavailable, sign_failure)));
    if (found == keys.end()) return answer(std::move(done), Result<Bytes>(fail(Code::not_found, "no key " + key.id)));
    if (!(found->second.public_key() == key.key))
      return answer(std::move(done), Result<Bytes>(fail(Code::failed_precondition, "key " + key.id + " was replaced")));
    answer(std::move(done), found->second.sign(alg, digest));
  }
  void remove(const std::string& id, Done<void> done) override {
    keys.erase(id);
    answer(std::move(done), Result<void>());
  }
  std::shared_ptr<const BlockingSigner> blocking_signer(const ManagedKey&) override { return nullptr; }

  std::map<std::string, PrivateKey> keys;
  size_t generated = 0;
  std::string failure;                    // not empty: what generate() says
  std::string list_failure;               // not empty: what list() says
  Code failure_code = Code::unavailable;  // of both
  std::string sign_failure;               // not empty: what sign() says

 private:
  ManagedKey managed(const std::string& id) {
    const PublicKey& key = keys.at(id).public_key();
    return {id, KeyType::ec_p256, key, hex_encode(key.key_id())};
  }
  template <class T>
  void answer(Done<T> done, Result<T> result) {
    loop_.post([held = std::move(done), r = std::move(result)]() mutable { held(std::move(r)); });
  }
  Loop& loop_;
  std::string name_ = "fake";
};

// One call, as the test's client makes it.
class FakeCall final : public wire::ServerCall {
 public:
  FakeCall(Loop& loop, std::string method, wire::Peer peer)
      : loop_(loop), method_(std::move(method)), peer_(std::move(peer)) {}
  [[nodiscard]] std::string_view method() const override { return method_; }
  [[nodiscard]] const wire::Peer& peer() const override { return peer_; }
  [[nodiscard]] const wire::Metadata& metadata() const override { return metadata_; }
  [[nodiscard]] int64_t time_left_ms() const override { return time_left; }
  void receive(Done<std::optional<Bytes>> done) override {
    EXPECT_FALSE(waiting_.wanted()) << "two receives at once";
    waiting_ = std::move(done);
    serve();
  }
  void send(Bytes message, Done<void> done, bool) override {
    EXPECT_FALSE(status) << "a message after the status";
    sent.push_back(std::move(message));
    loop_.post([held = std::move(done)]() mutable { held({}); });
  }
  void finish(Result<void> how) override {
    EXPECT_FALSE(status) << "finished twice";
    status = std::move(how);
  }

  void say(Bytes message) {
    said_.push_back(std::move(message));
    serve();
  }
  void close() {
    closed_ = true;
    serve();
  }
  [[nodiscard]] Code code() const { return !status ? Code::unknown : *status ? Code::ok : status->error().code; }
  [[nodiscard]] std::string message() const {
    return !status ? "not finished" : *status ? "" : status->error().message;
  }

  int64_t time_left = INT64_MAX;
  std::vector<Bytes> sent;
  std::optional<Result<void>> status;

 private:
  void serve() {
    if (!waiting_.wanted() || (said_.empty() && !closed_)) return;
    std::optional<Bytes> next;
    if (!said_.empty()) {
      next = std::move(said_.front());
      said_.pop_front();
    }
    loop_.post([held = std::move(waiting_), n = std::move(next)]() mutable { held(std::move(n)); });
    waiting_ = {};
  }
  Loop& loop_;
  std::string method_;
  wire::Peer peer_;
  wire::Metadata metadata_;
  std::deque<Bytes> said_;
  bool closed_ = false;
  Done<std::optional<Bytes>> waiting_;
};

// The local committer, until the test has the disk fill up or somebody else be faster.
class FillingDisk final : public Committer {
 public:
  FillingDisk(std::unique_ptr<Committer> local, const std::atomic<bool>& full, std::atomic<int>& conflicts,
              std::vector<ChangeSet>& ahead)
      : local_(std::move(local)), full_(full), conflicts_(conflicts), ahead_(ahead) {}
  std::vector<Outcome> commit(std::vector<ChangeSet>& group) override {
    if (full_) return refuse(group, {Code::resource_exhausted, "no space left on device"});
    if (!ahead_.empty()) {
      (void)local_->commit(ahead_);
      ahead_.clear();
    }
    if (conflicts_ == 0) return local_->commit(group);
    --conflicts_;
    return refuse(group, {Code::aborted, "it was changed meanwhile"});
  }

 private:
  static std::vector<Outcome> refuse(const std::vector<ChangeSet>& group, const Error& why) {
    std::vector<Outcome> outcomes(group.size());
    for (Outcome& outcome : outcomes) outcome.revision = std::unexpected(why);
    return outcomes;
  }
  std::unique_ptr<Committer> local_;
  const std::atomic<bool>& full_;
  std::atomic<int>& conflicts_;
  std::vector<ChangeSet>& ahead_;
};

struct Waited {
  Done<void> done() { return pending.then<&Waited::on_done>(this); }
  void on_done(Result<void> r) { result = std::move(r); }
  Pending<void> pending;
  std::optional<Result<void>> result;
};

class ServerRig {
 public:
  explicit ServerRig(std::vector<NodeAttestorServer*> attestors = {}) : attestors_(std::move(attestors)) {
    char name[] = "/tmp/limpet-server-XXXXXX";
    if (::mkdtemp(name) != nullptr) dir_ = name;
    config.trust_domain = kDomain;
    config.admin_ids = {"spiffe://example.org/admin"};
    StoreOptions options;
    options.path = dir_ + "/state.mdb";
    options.check_child = false;
    options.wrap_committer = [this](std::unique_ptr<Committer> local) {
      return std::make_unique<FillingDisk>(std::move(local), disk_full, conflicts, ahead);
    };
    store = std::move(*Store::open(loop, std::move(options)));
  }
  ~ServerRig() {
    core.reset();
    store.reset();
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  // A (re)started server; the store and the key manager's keys stay.
  Result<void> start() {
    start_anew();
    return started->result ? *started->result : fail(Code::internal, "not answered");
  }
  // The same, where the answer may come later.
  void start_anew() {
    core.reset();
    const ServerParts parts{clock,    *logger, health, *store,          keys,      attestors_,
                            upstream, fetcher, &board, Metrics::none(), publishers};
    auto made = ServerCore::make(loop, parts, config);
    started = std::make_unique<Waited>();
    if (!made) started->result = std::unexpected(made.error());
    if (!made) return;
    core = std::move(*made);
    core->start(started->done());
    run();
  }
  // One step of whatever is ready; false: only time can help.
  bool step() {
    store->settle();
    return loop.run_one();
  }
  // Everything that happens without time passing; waits that end at once (0 ms) are let through.
  void run() {
    for (int idle = 0; idle < 3; idle++) {
      while (step()) idle = 0;
      loop.advance(1);
    }
  }
  // Both clocks.
  void pass(int64_t seconds) {
    clock.advance_ms(seconds * 1000);
    loop.advance(seconds * 1000);
    run();
  }
  Result<uint64_t> commit(ChangeSet changes) {
    std::optional<Result<uint64_t>> answer;
    struct Waiter {
      void on_done(Result<uint64_t> r) { result = std::move(r); }
      Pending<uint64_t> pending;
      std::optional<Result<uint64_t>> result;
    } waiter;
    store->commit(std::move(changes), waiter.pending.then<&Waiter::on_done>(&waiter));
    run();
    return waiter.result ? *waiter.result : fail(Code::internal, "not answered");
  }

  static wire::Peer local() {
    wire::Peer peer;
    peer.address.unix_socket = true;
    return peer;
  }
  static wire::Peer remote(std::vector<Bytes> chain = {}, std::string ip = "192.0.2.7") {
    wire::Peer peer;
    peer.address.ip = std::move(ip);
    peer.address.port = 4711;
    peer.chain = std::move(chain);
    return peer;
  }
  // A certificate as the server's CA would issue it; with `serial` of your choice.
  Bytes certificate(const std::string& uri, Bytes serial = {0x09}, int64_t not_after = kStart + 3600) {
    SvidRequest request;
    request.id = *SpiffeId::parse("spiffe://example.org/placeholder");
    request.spki = some_key().public_key().spki();
    request.subject_key_id = some_key().public_key().key_id();
    request.ttl = 3600;
    CertificateTemplate cert = svid_template(request, core->ca().current()->authority->certificate, clock.now());
    cert.uris.clear();
    if (!uri.empty()) cert.uris = {uri};
    cert.serial = std::move(serial);
    cert.not_after = not_after;
    Bytes tbs = encode_tbs(cert, KeyType::ec_p256, HashAlg::sha256);
    return seal_certificate(tbs, KeyType::ec_p256, HashAlg::sha256, *some_key().sign(HashAlg::sha256, sha256(tbs)));
  }
  void put_agent(const std::string& path, std::string serial, std::string new_serial = {}, SelectorSet selectors = {}) {
    AgentRecord agent;
    agent.id = std::string("spiffe://example.org") + path;
    agent.attestation_type = "join_token";
    agent.serial = std::move(serial);
    agent.not_after = kStart + 3600;
    agent.new_serial = std::move(new_serial);
    agent.new_not_after = agent.new_serial.empty() ? 0 : kStart + 7200;
    agent.selectors = std::move(selectors);
    put_agent(agent);
  }
  void put_agent(const AgentRecord& agent) {
    AgentTable table(store->read());
    ChangeSet changes;
    auto row = find_agent(store->read(), agent.id);
    if (row) {
      AgentTable::update(changes, *row, agent);
    } else {
      table.create(changes, agent);
    }
    ASSERT_TRUE(commit(std::move(changes)).has_value());
  }
  void put_entry(const Entry& entry) {
    EntryTable table(store->read());
    ChangeSet changes;
    table.create(changes, entry);
    ASSERT_TRUE(commit(std::move(changes)).has_value());
  }
  static Entry entry(const std::string& id, const std::string& parent, const std::string& path) {
    Entry e;
    e.id = id;
    e.parent_id = *SpiffeId::parse("spiffe://example.org" + parent);
    e.spiffe_id = *SpiffeId::parse("spiffe://example.org" + path);
    e.selectors = {{"unix", "uid:" + id}};
    return e;
  }
  static Bytes csr(const std::vector<std::string>& uris = {}, const std::vector<std::string>& dns = {},
                   Bytes subject = {0x30, 0x00}) {
    CsrTemplate request;
    request.subject = std::move(subject);
    request.spki = some_key(1).public_key().spki();
    request.uris = uris;
    request.dns_names = dns;
    return *make_csr(request, some_key(1));
  }

  // A call that was opened and started; kept by the rig's caller.
  struct Open {
    std::unique_ptr<FakeCall> call;
    std::unique_ptr<wire::ServerFlow> flow;  // dies before the call
  };
  Open open(const std::string& service, const std::string& method, wire::Peer peer) {
    Open open;
    open.call = std::make_unique<FakeCall>(loop, "/" + service + "/" + method, std::move(peer));
    open.flow = core->service(service)->open(*open.call);
    if (open.flow) open.flow->start();
    return open;
  }
  // A unary call from start to end.
  template <class Response, class Request>
  Result<wire::Message<Response>> unary(const std::string& service, const std::string& method, wire::Peer peer,
                                        const wire::Message<Request>& request) {
    Open open = this->open("spire.api.server." + service, method, std::move(peer));
    if (!open.flow) return fail(Code::unimplemented, "no such method");
    open.call->say(*request.encode());
    open.call->close();
    run();
    if (!open.call->status) return fail(Code::internal, "not finished");
    if (!*open.call->status) return std::unexpected(open.call->status->error());
    return wire::Message<Response>::decode(open.call->sent.at(0));
  }

  FakeLoop loop;
  FakeClock clock{kStart};
  Health health;
  Logger* logger = &Logger::none();
  FakeKeyManager keys{loop};
  UpstreamAuthority* upstream = nullptr;
  std::vector<BundlePublisher*> publishers;
  ServerConfig config;
  BundleFetcher* fetcher = nullptr;
  IdentityBoard board;
  std::atomic<bool> disk_full = false;  // the store's writer thread reads it
  std::atomic<int> conflicts = 0;       // so many commits come too late
  std::vector<ChangeSet> ahead;         // written before the next commit, after whoever asked for it read; set it while
                                        // nothing is written
  std::unique_ptr<Store> store;
  std::unique_ptr<Waited> started;  // what start() was answered
  std::unique_ptr<ServerCore> core;

 private:
  std::string dir_;
  std::vector<NodeAttestorServer*> attestors_;
};

}  // namespace limpet::server::test
