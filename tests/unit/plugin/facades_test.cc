// SPDX-License-Identifier: Apache-2.0
// Node attestors and key managers through their tables, played by tables of this file.
#include <gtest/gtest.h>

#include "base/limits.h"
#include "loop/destroy_at_every_step.h"
#include "plugin/key_manager_facade.h"
#include "plugin/node_attestor.h"
#include "scripted.h"

namespace limpet {
namespace {

using namespace test;
using Words = std::vector<std::string>;

limpet_str lend(std::string_view text) { return {text.data(), text.size()}; }
limpet_bytes lend_bytes(std::string_view text) { return {as_bytes(text).data(), text.size()}; }
std::string text_of(limpet_bytes b) { return std::string(as_text({b.ptr, b.len})); }

// ---- a node attestor whose sessions are numbered; it answers with what it was told ----
struct NodeScript {
  NodeScript() { alive = this; }
  ~NodeScript() { alive = nullptr; }
  static inline NodeScript* alive = nullptr;
  bool refuse_open = false;
  bool hold = false;  // payload() is not answered but kept
  limpet_op* held = nullptr;
  limpet_bytes_done held_done = nullptr;
  Words log;
  limpet_attest_step step = {sizeof(limpet_attest_step), 1, {}, lend("/spire/agent/x/1"), {}, 0, 0};
};
int next_session = 0;

limpet_session* agent_open(limpet_instance*) {
  NodeScript::alive->log.push_back("open");
  return NodeScript::alive->refuse_open ? nullptr : reinterpret_cast<limpet_session*>(&next_session);
}
void agent_payload(limpet_session*, limpet_op* op, limpet_bytes_done done) {
  NodeScript& s = *NodeScript::alive;
  s.log.push_back("payload");
  if (!s.hold) return done(op, nullptr, lend_bytes("hello"));
  s.held = op;
  s.held_done = done;
}
void agent_answer(limpet_session*, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) {
  const std::string answer = "re:" + text_of(challenge);
  done(op, nullptr, lend_bytes(answer));
}
void node_close(limpet_session*) { NodeScript::alive->log.push_back("close"); }
limpet_session* server_open(limpet_instance*, const limpet_attempt* attempt) {
  NodeScript::alive->log.push_back("open " + std::string(attempt->peer_ip.ptr, attempt->peer_ip.len) + " " +
                                   std::string(attempt->trust_domain.ptr, attempt->trust_domain.len));
  return NodeScript::alive->refuse_open ? nullptr : reinterpret_cast<limpet_session*>(&next_session);
}
void server_step(limpet_session*, limpet_op* op, limpet_bytes said, limpet_step_done done) {
  NodeScript::alive->log.push_back("step " + text_of(said));
  done(op, nullptr, &NodeScript::alive->step);
}

limpet_code node_create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(&next_session);
  return LIMPET_OK;
}
void node_destroy(limpet_instance*) { NodeScript::alive->log.push_back("destroy"); }
void node_configure(limpet_instance*, limpet_op* op, const limpet_config*, limpet_done done) { done(op, nullptr); }
void node_cancel(limpet_instance*, limpet_op* op) {
  NodeScript& s = *NodeScript::alive;
  s.log.push_back("cancel");
  const limpet_status status = {sizeof status, LIMPET_CANCELLED, {}, 0, 0};
  if (s.held == op) s.held_done(op, &status, {});
}

constexpr limpet_node_attestor_agent kAgentTable = {sizeof kAgentTable, 0,         agent_open, agent_payload,
                                                    agent_answer,       node_close};
constexpr limpet_node_attestor_server kServerTable = {sizeof kServerTable, 0, server_open, server_step, node_close};
template <uint32_t Flags>
constexpr limpet_component kAgent = {sizeof(limpet_component),
                                     Flags,
                                     LIMPET_NODE_ATTESTOR_AGENT,
                                     "x",
                                     node_create,
                                     node_destroy,
                                     node_configure,
                                     node_cancel,
                                     &kAgentTable};
constexpr limpet_component kServer = {sizeof(limpet_component),
                                      0,
                                      LIMPET_NODE_ATTESTOR_SERVER,
                                      "x",
                                      node_create,
                                      node_destroy,
                                      node_configure,
                                      nullptr,
                                      &kServerTable};

template <uint32_t Flags = 0>
std::unique_ptr<NodeAttestorAgent> open_agent(Loop& loop) {
  return make_node_attestor_agent(
      *Instance::create({loop, Logger::none(), "example.org"}, kAgent<Flags>, kNodeAttestorPrefix));
}
std::unique_ptr<NodeAttestorServer> open_server(Loop& loop) {
  return make_node_attestor_server(
      *Instance::create({loop, Logger::none(), "example.org"}, kServer, kNodeAttestorPrefix));
}

TEST(NodeAttestorAgent, SpeaksPayloadThenAnswersThenClosesItsSession) {
  NodeScript script;
  FakeLoop loop;
  auto agent = open_agent(loop);
  EXPECT_EQ(agent->name(), "x");
  auto session = agent->open();
  Waiter<Bytes> payload;
  session->payload(payload.arm());
  loop.run_ready();
  ASSERT_EQ(outcome(payload), "ok");
  EXPECT_EQ(as_text(**payload.result), "hello");
  Waiter<Bytes> answer;
  session->answer(to_bytes("nonce"), answer.arm());
  loop.run_ready();
  ASSERT_EQ(outcome(answer), "ok");
  EXPECT_EQ(as_text(**answer.result), "re:nonce");
  session.reset();
  agent.reset();
  EXPECT_EQ(script.log, (Words{"open", "payload", "close", "destroy"}));
}

TEST(NodeAttestorAgent, ASessionGoneDuringItsCallIsClosedAfterTheAnswer) {
  NodeScript script;
  FakeLoop loop;
  script.hold = true;
  auto agent = open_agent(loop);
  {
    Waiter<Bytes> payload;
    auto session = agent->open();
    session->payload(payload.arm());
  }
  EXPECT_EQ(script.log, (Words{"open", "payload"}));
  script.held_done(script.held, nullptr, lend_bytes("late"));
  EXPECT_EQ(script.log, (Words{"open", "payload"}));
  loop.run_ready();
  EXPECT_EQ(script.log, (Words{"open", "payload", "close"}));
}

TEST(NodeAttestorAgent, AnAttestorClosedBeforeItsSessionClosesTheSessionAndItsCallsFail) {
  NodeScript script;
  FakeLoop loop;
  auto agent = open_agent(loop);
  auto session = agent->open();
  Waiter<Bytes> payload;
  session->payload(payload.arm());
  loop.run_ready();
  agent.reset();
  EXPECT_EQ(script.log, (Words{"open", "payload", "close", "destroy"}));
  Waiter<Bytes> answer;
  session->answer({}, answer.arm());
  EXPECT_EQ(outcome(answer), "waiting");
  loop.run_ready();
  EXPECT_EQ(outcome(answer), "Unavailable: nodeattestor(x): the plugin is being stopped");
  session.reset();
}

TEST(NodeAttestorAgent, ASessionThatCannotBeOpenedIsAnError) {
  NodeScript script;
  FakeLoop loop;
  script.refuse_open = true;
  auto agent = open_agent(loop);
  auto session = agent->open();
  Waiter<Bytes> payload;
  session->payload(payload.arm());
  loop.run_ready();
  EXPECT_EQ(outcome(payload), "ResourceExhausted: nodeattestor(x): the plugin could not open a session");
}

TEST(NodeAttestorAgent, ABlockingOneOpensAndClosesOnItsThread) {
  NodeScript script;
  FakeLoop loop;
  auto agent = open_agent<LIMPET_BLOCKING>(loop);
  auto session = agent->open();
  Waiter<Bytes> payload;
  session->payload(payload.arm());
  ASSERT_TRUE(run_until(loop, [&] { return payload.result.has_value(); }));
  session.reset();
  agent.reset();
  EXPECT_EQ(script.log, (Words{"open", "payload", "close", "destroy"}));
}

TEST(NodeAttestorAgent, MayBeDestroyedAtEachStepOfAnAttempt) {
  struct Scenario {
    explicit Scenario(FakeLoop& loop) {
      flow = open_agent(loop);
      session = flow->open();
      session->payload(pending.then<&Scenario::on_payload>(this));
    }
    void on_payload(Result<Bytes>) { session->answer({}, pending.then<&Scenario::on_answer>(this)); }
    void on_answer(Result<Bytes>) { session.reset(); }
    NodeScript script;
    std::unique_ptr<NodeAttestorAgentSession> session;
    Pending<Bytes> pending;
    std::unique_ptr<NodeAttestorAgent> flow;
  };
  EXPECT_GE(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<Scenario>(loop); }), 2u);
}

TEST(NodeAttestorServer, HandsOverChallengesAndVerdicts) {
  NodeScript script;
  FakeLoop loop;
  auto server = open_server(loop);
  auto session = server->open("192.0.2.7");
  script.step.attested = 0;
  script.step.challenge = lend_bytes("prove it");
  Waiter<AttestStep> first;
  session->step(to_bytes("p"), first.arm());
  loop.run_ready();
  ASSERT_EQ(outcome(first), "ok");
  EXPECT_FALSE((*first.result)->attested);
  EXPECT_EQ(as_text((*first.result)->challenge), "prove it");
  const limpet_str selectors[] = {lend("a:1"), lend("b:2")};
  script.step.attested = 1;
  script.step.selectors = {selectors, 2};
  script.step.can_reattest = 1;
  Waiter<AttestStep> second;
  session->step(to_bytes("q"), second.arm());
  loop.run_ready();
  ASSERT_EQ(outcome(second), "ok");
  EXPECT_TRUE((*second.result)->attested);
  EXPECT_TRUE((*second.result)->can_reattest);
  EXPECT_EQ((*second.result)->agent_path, "/spire/agent/x/1");
  EXPECT_EQ((*second.result)->selectors, (Words{"a:1", "b:2"}));
  session.reset();
  EXPECT_EQ(script.log, (Words{"open 192.0.2.7 example.org", "step p", "step q", "close"}));
}

TEST(NodeAttestorServer, RefusesAVerdictItCannotUse) {
  NodeScript script;
  FakeLoop loop;
  auto server = open_server(loop);
  const limpet_attest_step good = script.step;
  limpet_attest_step bad[] = {good, good, good};
  bad[0].size = 8;
  bad[1].agent_path = lend("");
  bad[2].agent_path = lend("spire/agent/x/1");
  for (const limpet_attest_step& step : bad) {
    script.step = step;
    auto session = server->open("");
    Waiter<AttestStep> waiter;
    session->step({}, waiter.arm());
    loop.run_ready();
    EXPECT_TRUE(outcome(waiter).starts_with("Internal: nodeattestor(x): the plugin's answer is not usable"))
        << outcome(waiter);
  }
}

// ---- a key manager with one key, whose fingerprint the test changes ----
struct KeyScript {
  KeyScript() : key(*PrivateKey::generate(KeyType::ec_p256)) { alive = this; }
  ~KeyScript() { alive = nullptr; }
  static inline KeyScript* alive = nullptr;
  PrivateKey key;
  std::string fingerprint = "one";
  uint32_t type = 1;
  limpet_public_key describe() {
    const Bytes& spki = key.public_key().spki();
    return {sizeof(limpet_public_key), type, lend("k"), {spki.data(), spki.size()}, lend(fingerprint)};
  }
};
void key_generate(limpet_instance*, limpet_op* op, limpet_str, uint32_t, limpet_key_done done) {
  const limpet_public_key key = KeyScript::alive->describe();
  done(op, nullptr, &key);
}
void key_list(limpet_instance*, limpet_op* op, limpet_keys_done done) {
  const limpet_public_key key = KeyScript::alive->describe();
  const limpet_public_key* keys[] = {&key};
  done(op, nullptr, keys, 1);
}
void key_sign(limpet_instance*, limpet_op* op, const limpet_sign_request* r, limpet_signature_done done) {
  const auto signature = KeyScript::alive->key.sign(static_cast<HashAlg>(r->hash), {r->digest.ptr, r->digest.len});
  done(op, nullptr, {signature->data(), signature->size()}, lend(KeyScript::alive->fingerprint));
}
void key_destroy(limpet_instance*) {}
constexpr limpet_key_manager kKeyTable = {sizeof kKeyTable, 0, key_generate, key_list, key_sign, nullptr};
template <uint32_t Flags>
constexpr limpet_component kKeys = {
    sizeof(limpet_component), Flags,   LIMPET_KEY_MANAGER, "keys", node_create, key_destroy,
    node_configure,           nullptr, &kKeyTable};

template <uint32_t Flags = 0>
std::unique_ptr<KeyManager> open_keys(Loop& loop) {
  return make_key_manager(*Instance::create({loop, Logger::none(), "example.org"}, kKeys<Flags>, kKeyManagerPrefix));
}

ManagedKey managed(KeyScript& script) { return {"k", KeyType::ec_p256, script.key.public_key(), "one"}; }

TEST(KeyManagerFacade, SignaturesVerifyWithTheListedKey) {
  KeyScript script;
  FakeLoop loop;
  auto keys = open_keys(loop);
  Waiter<std::vector<ManagedKey>> list;
  keys->list(list.arm());
  loop.run_ready();
  ASSERT_EQ(outcome(list), "ok");
  ASSERT_EQ((*list.result)->size(), 1u);
  const ManagedKey key = (**list.result)[0];
  EXPECT_EQ(key.id, "k");
  EXPECT_EQ(key.fingerprint, "one");
  const Bytes digest = sha256(as_bytes("data"));
  const auto signer = make_signer(*keys, key);
  Waiter<Bytes> signature;
  signer->sign(HashAlg::sha256, digest, signature.arm());
  loop.run_ready();
  ASSERT_EQ(outcome(signature), "ok");
  EXPECT_TRUE(signer->public_key().verify(HashAlg::sha256, digest, **signature.result));
}

TEST(KeyManagerFacade, AReplacedKeyIsAFailedPrecondition) {
  KeyScript script;
  FakeLoop loop;
  auto keys = open_keys(loop);
  script.fingerprint = "two";
  Waiter<Bytes> signature;
  keys->sign(managed(script), HashAlg::sha256, Bytes(32), signature.arm());
  loop.run_ready();
  EXPECT_EQ(outcome(signature),
            "FailedPrecondition: keymanager(keys): key k was replaced since it was read; read the keys again");
}

TEST(KeyManagerFacade, KeysThatCannotBeUsedAreErrors) {
  KeyScript script;
  FakeLoop loop;
  auto keys = open_keys(loop);
  script.type = 9;
  Waiter<ManagedKey> unknown_type;
  keys->generate("k", KeyType::ec_p256, unknown_type.arm());
  loop.run_ready();
  EXPECT_EQ(outcome(unknown_type),
            "Internal: keymanager(keys): the plugin's answer is not usable: a key of unknown type 9");
  script.type = 1;
  script.fingerprint.clear();
  Waiter<std::vector<ManagedKey>> list;
  keys->list(list.arm());
  loop.run_ready();
  EXPECT_EQ(outcome(list),
            "Internal: keymanager(keys): the plugin's answer is not usable: a key without id or fingerprint");
}

TEST(KeyManagerFacade, RemoveIsUnimplementedWhereThePluginHasNone) {
  KeyScript script;
  FakeLoop loop;
  auto keys = open_keys(loop);
  Waiter<void> removed;
  keys->remove("k", removed.arm());
  EXPECT_EQ(outcome(removed), "waiting");
  loop.run_ready();
  EXPECT_EQ(outcome(removed), "Unimplemented: keymanager(keys): the plugin cannot remove keys");
}

TEST(KeyManagerFacade, ABlockingSignerWorksWhileTheLoopStandsStillAndFailsOnceClosed) {
  KeyScript script;
  FakeLoop loop;
  auto keys = open_keys<LIMPET_BLOCKING>(loop);
  const auto signer = keys->blocking_signer(managed(script));
  const Bytes digest = sha256(as_bytes("data"));
  const auto signature = signer->sign(HashAlg::sha256, digest);
  ASSERT_TRUE(signature) << signature.error().text();
  EXPECT_TRUE(script.key.public_key().verify(HashAlg::sha256, digest, *signature));
  keys.reset();
  EXPECT_EQ(signer->sign(HashAlg::sha256, digest).error().code, Code::unavailable);
}

TEST(KeyManagerFacade, MayBeDestroyedAtEachStepOfASignature) {
  struct Scenario {
    explicit Scenario(FakeLoop& loop) {
      flow = open_keys<LIMPET_SERIAL>(loop);
      flow->sign(managed(script), HashAlg::sha256, Bytes(32), first.arm());
      flow->sign(managed(script), HashAlg::sha256, Bytes(32), second.arm());
    }
    KeyScript script;
    Waiter<Bytes> first;
    Waiter<Bytes> second;
    std::unique_ptr<KeyManager> flow;
  };
  EXPECT_GE(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<Scenario>(loop); }), 2u);
}

}  // namespace
}  // namespace limpet
