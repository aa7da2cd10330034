// SPDX-License-Identifier: Apache-2.0
#pragma once
// For the agent's tests: a server that answers on a fake loop, with knobs for everything it may do wrong, the channel
// and dialler to it, and a key manager, an attestor and a saver that live in memory.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/agent_keeper.h"
#include "agent/syncer.h"
#include "crypto/ecdsa.h"
#include "crypto/jws_sign.h"
#include "crypto/mbed.h"
#include "loop/fake_loop.h"
#include "proto/google_rpc_status.pb.h"
#include "proto/spire_svid.pb.h"
#include "support/mint.h"
#include "wire/api_types.h"

namespace limpet::test {

// ---- one call, as the fake server sees it ----
class FakeReply {
 public:
  explicit FakeReply(FakeLoop& loop) : loop_(loop) {}
  void message(Bytes bytes) { push(std::optional(std::move(bytes))); }
  template <class T>
  void message(const wire::Message<T>& m) {
    message(*m.encode());
  }
  void end() { push(std::optional<Bytes>()); }
  void error(Error why) { push(fail(std::move(why))); }
  void receive(Done<std::optional<Bytes>> done, std::shared_ptr<FakeReply> self) {
    waiting_ = std::move(done);
    deliver(std::move(self));
  }
  void set_self(const std::shared_ptr<FakeReply>& self) { self_ = self; }

 private:
  void push(Result<std::optional<Bytes>> what) {
    queue_.push_back(std::move(what));
    if (auto self = self_.lock()) deliver(std::move(self));
  }
  void deliver(std::shared_ptr<FakeReply> self) {
    loop_.post([self = std::move(self)] {
      if (self->queue_.empty() || !self->waiting_.wanted()) return;
      auto next = std::move(self->queue_.front());
      self->queue_.pop_front();
      Done<std::optional<Bytes>> done = std::move(self->waiting_);
      done(std::move(next));
    });
  }
  FakeLoop& loop_;
  std::weak_ptr<FakeReply> self_;
  std::deque<Result<std::optional<Bytes>>> queue_;
  Done<std::optional<Bytes>> waiting_;
};

// ---- the server ----
struct FakeServer {
  explicit FakeServer(FakeLoop& l) : loop(l) { bundle.x509_authorities.push_back({root.certificate.der, false}); }

  FakeLoop& loop;
  Authority root = make_root();
  TrustDomain trust_domain = *TrustDomain::parse("example.org");
  Bundle bundle{trust_domain, {}, {}, 0, 1};
  int64_t now = kNow;
  int64_t lifetime = 3600;
  // ---- knobs ----
  bool unreachable = false;
  std::map<std::string, Error> refuse;  // by method name
  int challenges = 0;
  bool reattestable = false;
  bool wrong_key = false;
  bool silent = false;  // answers nothing
  std::string agent_path = "/spire/agent/join_token/t";
  bool with_revisions = false;
  size_t page = 500;
  bool mix_entries = false, mix_revisions = false;
  std::vector<Entry> entries;
  std::map<std::string, Bundle> federated;
  size_t most_per_batch = 500;
  // ---- what happened ----
  std::vector<std::string> calls;
  std::vector<size_t> batches;
  std::vector<std::string> payloads;

  [[nodiscard]] size_t count(const std::string& method) const {
    return static_cast<size_t>(std::count(calls.begin(), calls.end(), method));
  }
  void open(const std::string& method) { calls.push_back(method); }

  void on_message(const std::string& method, BytesView message, FakeReply& reply) {
    if (silent) return;
    if (const auto refused = refuse.find(method); refused != refuse.end()) return reply.error(refused->second);
    if (method == "AttestAgent") return attest(message, reply);
    if (method == "RenewAgent") return renew(message, reply);
    if (method == "GetBundle") return get_bundle(reply);
    if (method == "GetFederatedBundle") return get_federated(message, reply);
    if (method == "PostStatus") return unary(reply, wire::Message<spire_api_server_agent_v1_PostStatusResponse>());
    if (method == "SyncAuthorizedEntries") return sync(message, reply);
    if (method == "GetAuthorizedEntries") return all(reply);
    if (method == "BatchNewX509SVID") return sign(message, reply);
    if (method == "NewJWTSVID") return sign_jwt(message, reply);
    reply.error({Code::unimplemented, "unknown method " + method});
  }

  template <class T>
  void unary(FakeReply& reply, const wire::Message<T>& m) {
    reply.message(m);
    reply.end();
  }

  Bytes certificate(BytesView csr_der, const std::string& uri) {
    const auto csr = Csr::parse(csr_der);
    EXPECT_TRUE(csr.has_value() && csr->verify().has_value());
    CertificateTemplate cert = leaf_template();
    cert.not_before = now;
    cert.not_after = now + lifetime;
    if (csr && !wrong_key) cert.spki = csr->key.spki();
    cert.uris = {uri};
    return issue(root, cert).der;
  }

  void attest(BytesView bytes, FakeReply& reply) {
    const auto request = wire::Message<spire_api_server_agent_v1_AttestAgentRequest>::decode(bytes);
    ASSERT_TRUE(request.has_value());
    if ((*request)->has_params) {
      payloads.emplace_back(as_text(wire::view((*request)->params.data.payload)));
      csr_ = to_bytes(wire::view((*request)->params.params.csr));
      asked_ = 0;
    } else {
      payloads.emplace_back(as_text(wire::view((*request)->challenge_response)));
    }
    wire::Message<spire_api_server_agent_v1_AttestAgentResponse> response;
    if (asked_++ < challenges) {
      wire::set_present(response->challenge, as_bytes("challenge"));
      return reply.message(response);
    }
    response->has_result = response->result.has_svid = true;
    response->result.reattestable = reattestable;
    wire::write_x509_svid(response->result.svid, {{certificate(csr_, trust_domain.id() + agent_path)},
                                                  *SpiffeId::make(trust_domain, agent_path),
                                                  now + lifetime,
                                                  ""});
    reply.message(response);
  }

  void renew(BytesView bytes, FakeReply& reply) {
    const auto request = wire::Message<spire_api_server_agent_v1_RenewAgentRequest>::decode(bytes);
    ASSERT_TRUE(request.has_value());
    wire::Message<spire_api_server_agent_v1_RenewAgentResponse> response;
    response->has_svid = true;
    wire::write_x509_svid(response->svid,
                          {{certificate(wire::view((*request)->params.csr), trust_domain.id() + agent_path)},
                           *SpiffeId::make(trust_domain, agent_path),
                           now + lifetime,
                           ""});
    unary(reply, response);
  }

  void get_bundle(FakeReply& reply) {
    wire::Message<spire_api_types_Bundle> out;
    wire::write_bundle(*out, bundle);
    unary(reply, out);
  }

  void get_federated(BytesView bytes, FakeReply& reply) {
    const auto request = wire::Message<spire_api_server_bundle_v1_GetFederatedBundleRequest>::decode(bytes);
    const auto found = federated.find(std::string(wire::view((*request)->trust_domain)));
    if (found == federated.end()) return reply.error({Code::not_found, "bundle not found"});
    wire::Message<spire_api_types_Bundle> out;
    wire::write_bundle(*out, found->second);
    unary(reply, out);
  }

  template <class T>
  void fill(T& out, const std::vector<Entry>& list) {
    auto* array = wire::set_array(out->entries, out->entries_count, list.size());
    for (size_t i = 0; i < list.size(); i++) wire::write_entry(array[i], list[i]);
  }

  void all(FakeReply& reply) {
    wire::Message<spire_api_server_entry_v1_GetAuthorizedEntriesResponse> out;
    fill(out, entries);
    unary(reply, out);
  }

  using SyncResponse = wire::Message<spire_api_server_entry_v1_SyncAuthorizedEntriesResponse>;
  void sync(BytesView bytes, FakeReply& reply) {
    const auto request = wire::Message<spire_api_server_entry_v1_SyncAuthorizedEntriesRequest>::decode(bytes);
    ASSERT_TRUE(request.has_value());
    if ((*request)->ids_count != 0) return sync_page(wire::read_strings((*request)->ids, (*request)->ids_count), reply);
    EXPECT_TRUE((*request)->has_output_mask && (*request)->output_mask.revision_number);
    if (with_revisions && !entries.empty()) return sync_revisions(reply);
    SyncResponse out;
    fill(out, entries);
    reply.message(out);
    reply.end();
  }

  void sync_revisions(FakeReply& reply) {
    for (size_t from = 0; from < entries.size(); from += page) {
      SyncResponse out;
      const size_t size = std::min(page, entries.size() - from);
      auto* list = wire::set_array(out->entry_revisions, out->entry_revisions_count, size);
      for (size_t i = 0; i < size; i++) {
        wire::set_string(list[i].id, entries[from + i].id);
        list[i].revision_number = entries[from + i].revision_number;
        list[i].created_at = entries[from + i].created_at;
      }
      if (mix_entries) fill(out, {entries.front()});
      out->more = from + page < entries.size();
      reply.message(out);
    }
  }

  void sync_page(const std::vector<std::string>& ids, FakeReply& reply) {
    id_pages.push_back(ids);
    std::vector<Entry> found;
    for (const Entry& entry : entries)
      if (std::find(ids.begin(), ids.end(), entry.id) != ids.end()) found.push_back(entry);
    SyncResponse out;
    fill(out, found);
    if (mix_revisions)
      wire::set_string(wire::set_array(out->entry_revisions, out->entry_revisions_count, 1)[0].id, "x");
    reply.message(out);
  }

  void sign(BytesView bytes, FakeReply& reply) {
    const auto request = wire::Message<spire_api_server_svid_v1_BatchNewX509SVIDRequest>::decode(bytes);
    ASSERT_TRUE(request.has_value());
    batches.push_back((*request)->params_count);
    if ((*request)->params_count > most_per_batch) return reply.error({Code::resource_exhausted, "too many"});
    wire::Message<spire_api_server_svid_v1_BatchNewX509SVIDResponse> out;
    auto* results = wire::set_array(out->results, out->results_count, (*request)->params_count);
    for (size_t i = 0; i < out->results_count; i++) sign_one((*request)->params[i], results[i]);
    unary(reply, out);
  }

  void sign_one(const spire_api_server_svid_v1_NewX509SVIDParams& params,
                spire_api_server_svid_v1_BatchNewX509SVIDResponse_Result& result) {
    const std::string id(wire::view(params.entry_id));
    for (const Entry& entry : entries) {
      if (entry.id != id || refuse_entries.contains(id)) continue;
      result.has_svid = true;
      wire::write_ok(result.has_status, result.status);
      return wire::write_x509_svid(
          result.svid,
          {{certificate(wire::view(params.csr), entry.spiffe_id.text())}, entry.spiffe_id, now + lifetime, entry.hint});
    }
    wire::write_error(result.has_status, result.status, {Code::not_found, "entry not found"});
  }

  void sign_jwt(BytesView bytes, FakeReply& reply) {
    const auto request = wire::Message<spire_api_server_svid_v1_NewJWTSVIDRequest>::decode(bytes);
    ASSERT_TRUE(request.has_value());
    for (const Entry& entry : entries) {
      if (entry.id != wire::view((*request)->entry_id)) continue;
      const PrivateKey& key = shared_key(KeyType::ec_p256, jwt_key);
      const std::string kid = "jwt-" + std::to_string(jwt_key);
      const std::string input =
          jws_signing_input(R"({"alg":"ES256","kid":")" + kid + "\"}",
                            R"({"aud":[")" + std::string(wire::view((*request)->audience[0])) + R"("],"exp":)" +
                                std::to_string(now + lifetime) + R"(,"iat":)" + std::to_string(now) + R"(,"n":)" +
                                std::to_string(++jwt_count) + R"(,"sub":")" +
                                (jwt_subject.empty() ? entry.spiffe_id.text() : jwt_subject) + "\"}");
      wire::Message<spire_api_server_svid_v1_NewJWTSVIDResponse> out;
      out->has_svid = true;
      const std::string token = *jws_seal(input, KeyType::ec_p256, *key.sign(HashAlg::sha256, sha256(as_bytes(input))));
      wire::set_string(out->svid.token, token);
      return unary(reply, out);
    }
    reply.error({Code::not_found, "entry not found or not authorized"});
  }
  int jwt_key = 300;
  int jwt_count = 0;
  std::string jwt_subject;

  std::vector<std::vector<std::string>> id_pages;
  std::set<std::string> refuse_entries;

 private:
  Bytes csr_;
  int asked_ = 0;
};

class FakeClientCall final : public wire::ClientCall {
 public:
  FakeClientCall(FakeLoop& loop, FakeServer& server, std::string method)
      : loop_(loop), server_(server), method_(std::move(method)), reply_(std::make_shared<FakeReply>(loop)) {
    reply_->set_self(reply_);
  }
  void send(Bytes message, Done<void> done) override {
    loop_.post([this_reply = reply_, &server = server_, method = method_, m = std::move(message),
                d = std::move(done)]() mutable {
      server.on_message(method, m, *this_reply);
      d({});
    });
  }
  void close_send() override {}
  void receive(Done<std::optional<Bytes>> done) override { reply_->receive(std::move(done), reply_); }

 private:
  FakeLoop& loop_;
  FakeServer& server_;
  std::string method_;
  std::shared_ptr<FakeReply> reply_;
};

class FakeChannel final : public wire::Channel {
 public:
  FakeChannel(FakeLoop& loop, FakeServer& server, const bool& going_away)
      : loop_(loop), server_(server), going_away_(going_away) {}
  std::unique_ptr<wire::ClientCall> open(std::string_view method, wire::CallOptions) override {
    std::string name(method.substr(method.rfind('/') + 1));
    server_.open(name);
    return std::make_unique<FakeClientCall>(loop_, server_, std::move(name));
  }
  [[nodiscard]] bool usable() const override { return !going_away_ && !server_.unreachable; }
  [[nodiscard]] const std::vector<Bytes>& peer_chain() const override { return chain_; }

 private:
  FakeLoop& loop_;
  FakeServer& server_;
  const bool& going_away_;
  std::vector<Bytes> chain_;
};

class FakeDialer final : public agent::Dialer {
 public:
  FakeDialer(FakeLoop& loop, FakeServer& server) : loop_(loop), server_(server) {}
  void dial(wire::TlsPolicy& policy, Done<std::unique_ptr<wire::Channel>> done) override {
    dials++;
    shown.push_back(policy.identity() != nullptr);
    if (signs && policy.identity() != nullptr && !sign(*policy.identity())) {
      loop_.post([d = std::move(done)]() mutable { d(fail(Code::unavailable, "tls: it could not sign")); });
      return;
    }
    loop_.post([this, d = std::move(done)]() mutable {
      if (server_.unreachable) return d(fail(Code::unavailable, "connection refused"));
      d(std::make_unique<FakeChannel>(loop_, server_, going_away));
    });
  }
  int dials = 0;
  std::vector<bool> shown;  // whether a certificate was shown, by dial
  bool going_away = false;
  bool signs = false;  // as a handshake does, with the key of the certificate that it shows

 private:
  static bool sign(const wire::TlsIdentity& identity) {
    MbedPk pk;
    Bytes signature(MBEDTLS_ECDSA_MAX_LEN);
    size_t size = 0;
    return load_remote_pk(*pk, *identity.remote_key) &&
           ecdsa_seam::sign(mbedtls_pk_ec(*pk), MBEDTLS_MD_SHA256, Bytes(32), signature, &size) == 0;
  }
  FakeLoop& loop_;
  FakeServer& server_;
};

// ---- the node's own parts ----
class FakeKeyManager final : public KeyManager {
 public:
  explicit FakeKeyManager(FakeLoop& loop) : loop_(loop) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  void generate(const std::string& id, KeyType, Done<ManagedKey> done) override {
    generated.push_back(id);
    which_[id] = 200 + static_cast<int>(generated.size() % 3);
    loop_.post([key = managed(id), d = std::move(done)]() mutable { d(std::move(key)); });
  }
  void list(Done<std::vector<ManagedKey>> done) override {
    std::vector<ManagedKey> all;
    for (const auto& [id, which] : which_) all.push_back(managed(id));
    loop_.post([all = std::move(all), d = std::move(done)]() mutable { d(std::move(all)); });
  }
  void sign_pss(const ManagedKey&, HashAlg, int32_t, Bytes, Done<Bytes>) override {}
  void sign(const ManagedKey& key, HashAlg alg, Bytes digest, Done<Bytes> done) override {
    auto signature = shared_key(KeyType::ec_p256, which_.at(key.id)).sign(alg, digest);
    loop_.post([s = std::move(signature), d = std::move(done)]() mutable { d(std::move(s)); });
  }
  void remove(const std::string&, Done<void>) override {}
  std::shared_ptr<const BlockingSigner> blocking_signer(const ManagedKey& key) override {
    struct Own final : BlockingSigner {
      Own(const FakeKeyManager& m, int w) : manager(m), which(w) {}
      Result<Bytes> sign(HashAlg alg, BytesView digest) const override {
        if (manager.trouble && which == manager.troubled) return fail(*manager.trouble);
        return shared_key(KeyType::ec_p256, which).sign(alg, digest);
      }
      const FakeKeyManager& manager;
      const int which;
    };
    return std::make_shared<Own>(*this, which_.at(key.id));
  }
  ManagedKey put(const std::string& id, int which) {
    which_[id] = which;
    return managed(id);
  }
  std::vector<std::string> generated;
  std::optional<Error> trouble;  // what signing for TLS with the key number `troubled` gives
  int troubled = 200;

 private:
  ManagedKey managed(const std::string& id) {
    return {id, KeyType::ec_p256, shared_key(KeyType::ec_p256, which_.at(id)).public_key(),
            std::to_string(which_.at(id))};
  }
  FakeLoop& loop_;
  std::string name_ = "fake";
  std::map<std::string, int> which_;
};

class FakeNodeAttestor final : public NodeAttestorAgent {
 public:
  explicit FakeNodeAttestor(FakeLoop& loop) : loop_(loop) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  std::unique_ptr<NodeAttestorAgentSession> open() override { return std::make_unique<Session>(loop_); }

 private:
  struct Session final : NodeAttestorAgentSession {
    explicit Session(FakeLoop& l) : loop(l) {}
    void payload(Done<Bytes> done) override { give("payload", std::move(done)); }
    void answer(Bytes challenge, Done<Bytes> done) override {
      give("answer to " + std::string(as_text(challenge)), std::move(done));
    }
    void give(std::string what, Done<Bytes> done) {
      loop.post([what = std::move(what), d = std::move(done)]() mutable { d(to_bytes(what)); });
    }
    FakeLoop& loop;
  };
  FakeLoop& loop_;
  std::string name_ = "join_token";
};

class FakeSaver final : public agent::IdentitySaver {
 public:
  explicit FakeSaver(FakeLoop& loop) : loop_(loop) {}
  void save_identity(const AgentSvid& svid, const Bundle&, Done<void> done) override {
    loop_.post([this, svid, d = std::move(done)]() mutable {
      if (full) return d(fail(Code::resource_exhausted, "disk full"));
      saved.push_back(svid);
      d({});
    });
  }
  bool full = false;
  std::vector<AgentSvid> saved;

 private:
  FakeLoop& loop_;
};

// Details of a PermissionDenied as a server sends them.
inline Error denied(int reason) {
  wire::Message<spire_api_types_PermissionDeniedDetails> details;
  details->reason = static_cast<spire_api_types_PermissionDeniedDetails_Reason>(reason);
  wire::Message<google_rpc_Status> status;
  status->code = 7;
  auto* any = wire::set_array(status->details, status->details_count, 1);
  wire::set_string(any->type_url, "type.googleapis.com/spire.api.types.PermissionDeniedDetails");
  wire::set_bytes(any->value, *details.encode());
  return {Code::permission_denied, "authorization denied", *status.encode()};
}

inline Entry make_entry(const std::string& id, const std::string& path, std::vector<Selector> selectors) {
  Entry entry;
  entry.id = id;
  entry.spiffe_id = *SpiffeId::parse("spiffe://example.org" + path);
  entry.parent_id = *SpiffeId::parse("spiffe://example.org/spire/agent/join_token/t");
  entry.selectors = make_selector_set(std::move(selectors));
  entry.created_at = 100;
  return entry;
}

// The parts a flow needs, wired together, with time that passes on both clocks.
struct World : agent::LinkClient {
  void on_key_lost(const Error& why) override {
    keys_lost++;
    if (tell_key_lost) tell_key_lost(why);
  }
  int keys_lost = 0;
  std::function<void(const Error&)> tell_key_lost;
  explicit World(FakeLoop& l) : loop(l), server(l), dialer(l, server), keys(l), attestor(l), saver(l) {}
  void on_link_up() override { link_ups++; }
  // Loop, agent's clock and server's clock together, second by second.
  void pass(int64_t seconds) {
    for (int64_t i = 0; i < seconds; i++) {
      clock->advance_ms(1000);
      server.now = clock->now();
      loop.advance(1000);
    }
  }
  FakeLoop& loop;
  std::shared_ptr<FakeClock> clock = std::make_shared<FakeClock>(kNow);
  Logger& log = Logger::none();
  Health health;
  FakeServer server;
  FakeDialer dialer;
  FakeKeyManager keys;
  FakeNodeAttestor attestor;
  FakeSaver saver;
  agent::ServerTrust trust{clock, *TrustDomain::parse("example.org"), true};
  agent::IdentityCache cache;
  int link_ups = 0;
  agent::Link link{loop, dialer, trust, health, log, *this};

  // As after an attestation: with an SVID and a connection.
  void attested() {
    trust.set_bundle(server.bundle);
    trust.set_credential(
        std::make_shared<agent::Credential>(std::vector<Bytes>{Bytes{1}}, keys.put("agent-svid-A", 200), nullptr));
    link.refresh();
    loop.run_ready();
  }
};

}  // namespace limpet::test
