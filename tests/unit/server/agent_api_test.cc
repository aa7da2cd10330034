// SPDX-License-Identifier: Apache-2.0
#include "server/agent_api.h"

#include "proto/google/protobuf/empty.pb.h"
#include "server_rig.h"
#include "store/join_tokens.h"
#include "wire/api_types.h"

namespace limpet::server::test {
namespace {

using AttestRequest = spire_api_server_agent_v1_AttestAgentRequest;
using AttestResponse = spire_api_server_agent_v1_AttestAgentResponse;
constexpr const char* kService = "spire.api.server.agent.v1.Agent";

// An attestor that asks `rounds` questions and then takes anybody.
class Attestor final : public NodeAttestorServer {
 public:
  explicit Attestor(Loop& loop) : loop_(loop) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  std::unique_ptr<NodeAttestorServerSession> open(const std::string&) override {
    return std::make_unique<Session>(*this);
  }

  int rounds = 1;
  AttestStep verdict{true, {}, "/spire/agent/fake/node-1", {"b", "a", "b"}, true};
  std::optional<Error> failure;
  std::vector<std::string> heard;

 private:
  struct Session final : NodeAttestorServerSession {
    explicit Session(Attestor& a) : owner(a) {}
    void step(Bytes from_agent, Done<AttestStep> done) override {
      owner.heard.emplace_back(as_text(from_agent));
      Result<AttestStep> result = AttestStep{false, to_bytes("challenge"), {}, {}, false};
      if (round++ == owner.rounds) result = owner.verdict;
      if (owner.failure) result = std::unexpected(*owner.failure);
      owner.loop_.post([held = std::move(done), r = std::move(result)]() mutable { held(std::move(r)); });
    }
    Attestor& owner;
    int round = 0;
  };
  Loop& loop_;
  std::string name_ = "fake";
};

Bytes params(const std::string& type, const std::string& payload, Bytes csr = ServerRig::csr()) {
  wire::Message<AttestRequest> request;
  request->has_params = true;
  request->params.has_data = true;
  wire::set_string(request->params.data.type, type);
  if (!payload.empty()) wire::set_bytes(request->params.data.payload, as_bytes(payload));
  request->params.has_params = true;
  wire::set_bytes(request->params.params.csr, csr);
  return *request.encode();
}
Bytes answer(const std::string& text) {
  wire::Message<AttestRequest> request;
  wire::set_present(request->challenge_response, as_bytes(text));
  return *request.encode();
}
void put_token(ServerRig& rig, const std::string& token, int64_t expires_at = kStart + 600) {
  ChangeSet changes;
  create_join_token(changes, {token, expires_at, ""});
  ASSERT_TRUE(rig.commit(std::move(changes)));
}
// The rig is told of the attestor before it has a loop, so the attestor posts to a loop of its own.
struct AttestRig {
  AttestRig() : attestor(loop), rig({&attestor}) {
    rig.config.ratelimit_attestation = false;
    EXPECT_TRUE(rig.start());
  }
  void run() {
    for (int i = 0; i < 4; i++) {
      loop.run_ready();
      rig.run();
    }
  }
  FakeLoop loop;
  Attestor attestor;
  ServerRig rig;
};

TEST(AttestAgent, MalformedParamsAreNamed) {
  ServerRig rig;
  rig.config.ratelimit_attestation = false;
  ASSERT_TRUE(rig.start());
  struct Case {
    const char* text;
    std::function<void(AttestRequest&)> spoil;
  };
  const Case cases[] = {
      {"missing params", [](AttestRequest& r) { r.has_params = false; }},
      {"missing attestation data", [](AttestRequest& r) { r.params.has_data = false; }},
      {"missing X509-SVID parameters", [](AttestRequest& r) { r.params.has_params = false; }},
      {"missing CSR", [](AttestRequest& r) { wire::set_bytes(r.params.params.csr, {}); }},
      {"missing attestation data type", [](AttestRequest& r) { wire::set_string(r.params.data.type, ""); }},
      {"missing attestation data payload", [](AttestRequest& r) { wire::set_bytes(r.params.data.payload, {}); }},
  };
  for (const Case& c : cases) {
    auto request = wire::Message<AttestRequest>::decode(params("join_token", "t"));
    ASSERT_TRUE(request);
    c.spoil(**request);
    auto open = rig.open(kService, "AttestAgent", rig.remote());
    open.call->say(*request->encode());
    rig.run();
    EXPECT_EQ(open.call->code(), Code::invalid_argument) << c.text;
    EXPECT_EQ(open.call->message(), std::string("malformed param: ") + c.text);
  }
  auto closed = rig.open(kService, "AttestAgent", rig.remote());
  closed.call->close();
  rig.run();
  EXPECT_EQ(closed.call->code(), Code::invalid_argument);
  auto garbage = rig.open(kService, "AttestAgent", rig.remote());
  garbage.call->say({0xff, 0xff, 0xff});
  rig.run();
  EXPECT_EQ(garbage.call->code(), Code::invalid_argument);
}

TEST(AttestAgent, AJoinTokenMakesOneAgentOnce) {
  ServerRig rig;
  rig.config.ratelimit_attestation = false;
  ASSERT_TRUE(rig.start());
  put_token(rig, "t-1");
  auto first = rig.open(kService, "AttestAgent", rig.remote());
  first.call->say(params("join_token", "t-1"));
  rig.run();
  ASSERT_EQ(first.call->code(), Code::ok) << first.call->message();
  auto response = wire::Message<AttestResponse>::decode(first.call->sent.at(0));
  ASSERT_TRUE(response && (*response)->has_result);
  EXPECT_FALSE((*response)->result.reattestable);
  const auto& svid = (*response)->result.svid;
  EXPECT_EQ(wire::view(svid.id.path), "/spire/agent/join_token/t-1");
  Certificate leaf = *Certificate::parse(wire::view(svid.cert_chain[0]));
  EXPECT_TRUE(verify_chain({leaf}, *rig.core->bundles().roots(), rig.clock.now()));
  EXPECT_EQ(leaf.key.spki(), some_key(1).public_key().spki());
  auto row = find_agent(rig.store->read(), "spiffe://example.org/spire/agent/join_token/t-1");
  ASSERT_TRUE(row);
  EXPECT_EQ(row->agent.serial, leaf.serial_decimal());
  EXPECT_EQ(row->agent.not_after, leaf.not_after);
  EXPECT_EQ(row->agent.attestation_type, "join_token");

  auto second = rig.open(kService, "AttestAgent", rig.remote());
  second.call->say(params("join_token", "t-1"));
  rig.run();
  EXPECT_EQ(second.call->code(), Code::invalid_argument);
  EXPECT_EQ(second.call->message(), "failed to attest: join token does not exist or has already been used");
}

TEST(AttestAgent, OfTwoAgentsWithOneTokenAtTheSameMomentOneGetsIn) {
  ServerRig rig;
  rig.config.ratelimit_attestation = false;
  ASSERT_TRUE(rig.start());
  put_token(rig, "t-1");
  auto a = rig.open(kService, "AttestAgent", rig.remote());
  auto b = rig.open(kService, "AttestAgent", rig.remote());
  a.call->say(params("join_token", "t-1"));
  b.call->say(params("join_token", "t-1"));
  rig.run();
  EXPECT_EQ((a.call->code() == Code::ok) + (b.call->code() == Code::ok), 1);
  EXPECT_EQ((a.call->code() == Code::invalid_argument) + (b.call->code() == Code::invalid_argument), 1);
}

TEST(AttestAgent, AnExpiredTokenIsToldApartAndGone) {
  ServerRig rig;
  rig.config.ratelimit_attestation = false;
  ASSERT_TRUE(rig.start());
  put_token(rig, "old", kStart - 1);
  auto open = rig.open(kService, "AttestAgent", rig.remote());
  open.call->say(params("join_token", "old"));
  rig.run();
  EXPECT_EQ(open.call->code(), Code::invalid_argument);
  EXPECT_EQ(open.call->message(), "join token expired");
  EXPECT_FALSE(find_join_token(rig.store->read(), "old"));
}

TEST(AttestAgent, ABadCsrDoesNotBurnTheToken) {
  ServerRig rig;
  rig.config.ratelimit_attestation = false;
  ASSERT_TRUE(rig.start());
  put_token(rig, "t-1");
  auto open = rig.open(kService, "AttestAgent", rig.remote());
  open.call->say(params("join_token", "t-1", to_bytes("no csr")));
  rig.run();
  EXPECT_EQ(open.call->code(), Code::invalid_argument);
  EXPECT_EQ(open.call->message().substr(0, 19), "failed to parse CSR");
  EXPECT_TRUE(find_join_token(rig.store->read(), "t-1"));
}

TEST(AttestAgent, AnAttestorMayAskAndItsSelectorsReplaceTheOldOnes) {
  AttestRig a;
  AgentRecord before;
  before.id = "spiffe://example.org/spire/agent/fake/node-1";
  before.attestation_type = "fake";
  before.serial = "1";
  before.new_serial = "2";
  before.selectors = {{"fake", "gone"}};
  before.agent_version = "1.2.3";
  a.rig.put_agent(before);
  auto open = a.rig.open(kService, "AttestAgent", a.rig.remote());
  open.call->say(params("fake", "hello"));
  a.run();
  ASSERT_EQ(open.call->sent.size(), 1u) << open.call->message();
  auto challenge = wire::Message<AttestResponse>::decode(open.call->sent.at(0));
  EXPECT_EQ(as_text(wire::view((*challenge)->challenge)), "challenge");
  open.call->say(answer("response"));
  a.run();
  ASSERT_EQ(open.call->code(), Code::ok) << open.call->message();
  EXPECT_EQ(a.attestor.heard, (std::vector<std::string>{"hello", "response"}));
  auto row = find_agent(a.rig.store->read(), before.id);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->agent.selectors, (SelectorSet{{"fake", "a"}, {"fake", "b"}}));
  EXPECT_TRUE(row->agent.can_reattest);
  EXPECT_EQ(row->agent.new_serial, "");
  EXPECT_EQ(row->agent.agent_version, "1.2.3");
}

TEST(AttestAgent, RefusesUnknownTypesBannedAgentsBadVerdictsAndEndlessChallenges) {
  struct Case {
    const char* type;
    std::function<void(AttestRig&)> prepare;
    Code code;
    const char* text;
  };
  const Case cases[] = {
      {"other", [](AttestRig&) {}, Code::failed_precondition,
       "error getting node attestor: could not find node attestor type \"other\""},
      {"fake", [](AttestRig& a) { a.attestor.failure = Error{Code::permission_denied, "nodeattestor(fake): no"}; },
       Code::permission_denied, "nodeattestor(fake): no"},
      {"fake",
       [](AttestRig& a) {
         a.attestor.rounds = 0;
         a.attestor.verdict.agent_path = "/spire/server";
       },
       Code::internal, "agent ID cannot collide with the server ID"},
      {"fake",
       [](AttestRig& a) {
         a.attestor.rounds = 0;
         a.attestor.verdict.agent_path = "no path";
       },
       Code::internal, "invalid agent ID: "},
      {"fake",
       [](AttestRig& a) {
         a.attestor.rounds = 0;
         a.rig.put_agent("/spire/agent/fake/node-1", "");
       },
       Code::permission_denied, "failed to attest: agent is banned"},
      {"fake", [](AttestRig& a) { a.attestor.rounds = 1000; }, Code::resource_exhausted,
       "nodeattestor(fake): too many challenges"},
  };
  for (const Case& c : cases) {
    AttestRig a;
    c.prepare(a);
    auto open = a.rig.open(kService, "AttestAgent", a.rig.remote());
    open.call->say(params(c.type, "hello"));
    for (int i = 0; i < 12; i++) {
      a.run();
      if (open.call->status) break;
      open.call->say(answer("again"));
    }
    EXPECT_EQ(open.call->code(), c.code) << c.text;
    EXPECT_EQ(open.call->message().substr(0, std::string(c.text).size()), c.text);
  }
}

TEST(AttestAgent, WaitsForItsTurnAndGivesUpAtItsDeadline) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  put_token(rig, "t-1");
  auto first = rig.open(kService, "AttestAgent", rig.remote());
  auto second = rig.open(kService, "AttestAgent", rig.remote());
  second.call->say(params("join_token", "t-1"));
  rig.run();
  EXPECT_FALSE(second.call->status);
  rig.pass(1);
  EXPECT_EQ(second.call->code(), Code::ok) << second.call->message();
  EXPECT_FALSE(first.call->status);
  rig.pass(121);  // says nothing
  EXPECT_EQ(first.call->code(), Code::deadline_exceeded);
}

TEST(AttestAgent, MayDieAtEachOfItsSteps) {
  size_t steps = 0;
  for (size_t die_at = 0; die_at <= steps + 1; die_at++) {
    ServerRig rig;
    rig.config.ratelimit_attestation = false;
    ASSERT_TRUE(rig.start());
    put_token(rig, "t-1");
    auto open = rig.open(kService, "AttestAgent", rig.remote());
    open.call->say(params("join_token", "t-1"));
    size_t step = 0;
    for (; step < 40 && !open.call->status; step++) {
      if (die_at > 0 && step == die_at) break;
      if (!rig.step()) rig.loop.run_next_timer();
    }
    if (die_at == 0) steps = step;
    open.flow.reset();
    rig.run();
  }
  EXPECT_GT(steps, 4u);
}

TEST(AttestAgent, OfTwoAtOnceWhoseAttestorTakesTheFirstOnlyOneGetsAnSvid) {
  for (const bool can_reattest : {false, true}) {
    AttestRig r;
    r.attestor.rounds = 0;
    r.attestor.verdict.can_reattest = can_reattest;
    ServerRig::Open calls[] = {r.rig.open(kService, "AttestAgent", r.rig.remote()),
                               r.rig.open(kService, "AttestAgent", r.rig.remote())};
    for (auto& open : calls) open.call->say(params("fake", "payload"));
    r.run();
    EXPECT_EQ(calls[0].call->code(), Code::ok) << calls[0].call->message();
    if (can_reattest) {
      EXPECT_EQ(calls[1].call->code(), Code::ok) << calls[1].call->message();
    } else {
      EXPECT_EQ(calls[1].call->code(), Code::permission_denied);
      EXPECT_EQ(calls[1].call->message(), "failed to attest: attestation data was used meanwhile to attest an agent");
    }
  }
}

TEST(RenewAgent, StandsBesideTheOldSvidUntilItIsUsed) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  rig.put_agent("/spire/agent/join_token/t", "9");
  const wire::Peer agent = rig.remote({rig.certificate("spiffe://example.org/spire/agent/join_token/t")});
  wire::Message<spire_api_server_agent_v1_RenewAgentRequest> request;
  using Response = spire_api_server_agent_v1_RenewAgentResponse;
  auto without_params = rig.unary<Response>("agent.v1.Agent", "RenewAgent", agent, request);
  EXPECT_EQ(without_params.error().message, "params cannot be nil");
  request->has_params = true;
  EXPECT_EQ(rig.unary<Response>("agent.v1.Agent", "RenewAgent", agent, request).error().message, "missing CSR");
  wire::set_bytes(request->params.csr, ServerRig::csr());
  auto response = rig.unary<Response>("agent.v1.Agent", "RenewAgent", agent, request);
  ASSERT_TRUE(response) << response.error().text();
  Certificate leaf = *Certificate::parse(wire::view((*response)->svid.cert_chain[0]));
  auto row = find_agent(rig.store->read(), "spiffe://example.org/spire/agent/join_token/t");
  EXPECT_EQ(row->agent.serial, "9");
  EXPECT_EQ(row->agent.new_serial, leaf.serial_decimal());
  EXPECT_EQ(row->agent.new_not_after, leaf.not_after);

  AgentRecord reattestable = row->agent;
  reattestable.can_reattest = true;
  rig.put_agent(reattestable);
  auto refused = rig.unary<Response>("agent.v1.Agent", "RenewAgent", agent, request);
  EXPECT_EQ(refused.error().code, Code::permission_denied);
  EXPECT_EQ(refused.error().message, "agent must reattest instead of renew");
  EXPECT_EQ(refused.error().details,
            permission_denied("agent must reattest instead of renew", DeniedReason::agent_must_reattest).details);
}

TEST(Agents, AreListedFilteredCountedBannedAndDeleted) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  for (int i = 0; i < 5; i++)
    rig.put_agent("/spire/agent/join_token/" + std::to_string(i), i == 3 ? "" : "9", "", {{"s", std::to_string(i)}});
  using ListRequest = spire_api_server_agent_v1_ListAgentsRequest;
  using ListResponse = spire_api_server_agent_v1_ListAgentsResponse;
  auto list = [&](wire::Message<ListRequest>& request) {
    auto response = rig.unary<ListResponse>("agent.v1.Agent", "ListAgents", rig.local(), request);
    EXPECT_TRUE(response) << response.error().text();
    return std::move(*response);
  };
  wire::Message<ListRequest> all;
  EXPECT_EQ(list(all)->agents_count, 5);
  EXPECT_EQ(wire::view(list(all)->next_page_token), "");

  // pages of two: 2, 2, 1, and the final empty one
  wire::Message<ListRequest> paged;
  paged->page_size = 2;
  std::vector<int> sizes;
  for (int i = 0; i < 4; i++) {
    auto page = list(paged);
    sizes.push_back(page->agents_count);
    wire::set_string(paged->page_token, wire::view(page->next_page_token));
  }
  EXPECT_EQ(sizes, (std::vector<int>{2, 2, 1, 0}));
  wire::set_string(paged->page_token, "x");
  auto malformed = rig.unary<ListResponse>("agent.v1.Agent", "ListAgents", rig.local(), paged);
  EXPECT_EQ(malformed.error().code, Code::internal);
  EXPECT_EQ(malformed.error().message.substr(0, 45), "failed to list agents: could not parse token ");

  wire::Message<ListRequest> banned;
  banned->has_filter = true;
  banned->filter.has_by_banned = true;
  banned->filter.by_banned.value = true;
  banned->has_output_mask = true;
  auto only = list(banned);
  ASSERT_EQ(only->agents_count, 1);
  EXPECT_EQ(wire::view(only->agents[0].id.path), "/spire/agent/join_token/3");
  EXPECT_EQ(wire::view(only->agents[0].attestation_type), "");  // an empty mask: the id alone

  using CountRequest = spire_api_server_agent_v1_CountAgentsRequest;
  auto count = [&](std::function<void(spire_api_server_agent_v1_CountAgentsRequest_Filter&)> set) {
    wire::Message<CountRequest> request;
    request->has_filter = true;
    set(request->filter);
    auto response =
        rig.unary<spire_api_server_agent_v1_CountAgentsResponse>("agent.v1.Agent", "CountAgents", rig.local(), request);
    return response ? (*response)->count : -static_cast<int>(response.error().code);
  };
  EXPECT_EQ(count([](auto&) {}), 5);
  EXPECT_EQ(count([](auto& f) { wire::set_string(f.by_attestation_type, "x509pop"); }), 0);
  EXPECT_EQ(count([](auto& f) { f.has_by_can_reattest = true; }), 5);
  EXPECT_EQ(count([](auto& f) { wire::set_string(f.by_expires_before, "2026-11-22 03:00:35 +0000 +00"); }), 0);
  EXPECT_EQ(count([](auto& f) { wire::set_string(f.by_expires_before, "2026-11-22 03:00:36 +0000 +00"); }), 5);
  EXPECT_EQ(count([](auto& f) { wire::set_string(f.by_expires_before, "2026-11-22 04:00:35 +0100 +01"); }), 0);
  EXPECT_EQ(count([](auto& f) { wire::set_string(f.by_expires_before, "yesterday"); }), 5);
  EXPECT_EQ(count([](auto& f) { f.has_by_selector_match = true; }), -static_cast<int>(Code::invalid_argument));
  auto by_selector = [&](int behavior) {
    return count([behavior](auto& f) {
      f.has_by_selector_match = true;
      wire::write_selectors(f.by_selector_match.selectors, f.by_selector_match.selectors_count,
                            {{"s", "0"}, {"s", "1"}});
      std::memcpy(&f.by_selector_match.match, &behavior, sizeof behavior);
    });
  };
  EXPECT_EQ(by_selector(0), 0);
  EXPECT_EQ(by_selector(1), 2);
  EXPECT_EQ(by_selector(2), 0);
  EXPECT_EQ(by_selector(3), 2);

  auto change = [&](const char* method, const std::string& path) {
    wire::Message<spire_api_server_agent_v1_BanAgentRequest> request;  // DeleteAgentRequest has the same shape
    wire::write_id(request->has_id, request->id, *SpiffeId::parse("spiffe://example.org" + path));
    auto response = rig.unary<google_protobuf_Empty>("agent.v1.Agent", method, rig.local(), request);
    return response ? std::string("ok") : response.error().text();
  };
  EXPECT_EQ(change("BanAgent", "/spire/agent/join_token/0"), "ok");
  EXPECT_TRUE(find_agent(rig.store->read(), "spiffe://example.org/spire/agent/join_token/0")->agent.banned());
  EXPECT_EQ(change("DeleteAgent", "/spire/agent/join_token/1"), "ok");
  EXPECT_EQ(change("DeleteAgent", "/spire/agent/join_token/1"), "NotFound: agent not found");
  EXPECT_EQ(change("BanAgent", "/spire/agent/none"), "NotFound: agent not found");
  EXPECT_EQ(change("BanAgent", "/web").substr(0, 33), "InvalidArgument: invalid agent ID");
}

TEST(JoinTokens, ComeWithAnAliasEntryThatGoesWithTheirAgent) {
  ServerRig rig;
  rig.config.ratelimit_attestation = false;
  ASSERT_TRUE(rig.start());
  using Request = spire_api_server_agent_v1_CreateJoinTokenRequest;
  wire::Message<Request> request;
  auto create = [&] {
    return rig.unary<spire_api_types_JoinToken>("agent.v1.Agent", "CreateJoinToken", rig.local(), request);
  };
  EXPECT_EQ(create().error().message, "ttl is required, you must provide one");
  request->ttl = 60;
  auto anonymous = create();
  ASSERT_TRUE(anonymous);
  EXPECT_EQ(wire::view((*anonymous)->value).size(), 36u);
  EXPECT_EQ((*anonymous)->expires_at, kStart + 60);
  EXPECT_EQ(rig.core->index().size(), 0u);

  wire::write_id(request->has_agent_id, request->agent_id, *SpiffeId::parse("spiffe://example.org/spire/x"));
  EXPECT_EQ(create().error().code, Code::invalid_argument);
  wire::write_id(request->has_agent_id, request->agent_id, *SpiffeId::parse("spiffe://example.org/host"));
  wire::set_string(request->token, "bad token");
  EXPECT_EQ(create().error().code, Code::invalid_argument);
  wire::set_string(request->token, "t-1");
  ASSERT_TRUE(create());
  EXPECT_EQ(create().error().code, Code::internal);  // it exists
  auto aliases = rig.core->index().with_spiffe_id(*SpiffeId::parse("spiffe://example.org/host"));
  ASSERT_EQ(aliases.size(), 1u);
  EXPECT_EQ(aliases[0]->parent_id.text(), "spiffe://example.org/spire/agent/join_token/t-1");
  EXPECT_EQ(aliases[0]->selectors, (SelectorSet{{"spiffe_id", "spiffe://example.org/spire/agent/join_token/t-1"}}));

  auto open = rig.open(kService, "AttestAgent", rig.remote());
  open.call->say(params("join_token", "t-1"));
  rig.run();
  ASSERT_EQ(open.call->code(), Code::ok);
  wire::Message<spire_api_server_agent_v1_DeleteAgentRequest> gone;
  wire::write_id(gone->has_id, gone->id, *SpiffeId::parse("spiffe://example.org/spire/agent/join_token/t-1"));
  ASSERT_TRUE(rig.unary<google_protobuf_Empty>("agent.v1.Agent", "DeleteAgent", rig.local(), gone));
  EXPECT_EQ(rig.core->index().size(), 0u);
}

TEST(AgentFlows, MayDieAtEachOfTheirSteps) {
  wire::Message<spire_api_server_agent_v1_RenewAgentRequest> renew;
  renew->has_params = true;
  wire::set_bytes(renew->params.csr, ServerRig::csr());
  wire::Message<spire_api_server_agent_v1_PostStatusRequest> status;
  wire::set_string(status->agent_version, "1.15.3");
  wire::Message<spire_api_server_agent_v1_CreateJoinTokenRequest> token;
  token->ttl = 60;
  wire::Message<spire_api_server_agent_v1_BanAgentRequest> ban;
  wire::write_id(ban->has_id, ban->id, *SpiffeId::parse("spiffe://example.org/spire/agent/join_token/t"));
  struct Case {
    const char* method;
    bool local;
    Bytes request;
  };
  const Case cases[] = {{"RenewAgent", false, *renew.encode()},
                        {"PostStatus", false, *status.encode()},
                        {"CreateJoinToken", true, *token.encode()},
                        {"BanAgent", true, *ban.encode()},
                        {"DeleteAgent", true, *ban.encode()}};
  for (const Case& c : cases) {
    size_t steps = 0;
    for (size_t die_at = 0; die_at <= steps + 1; die_at++) {
      ServerRig rig;
      ASSERT_TRUE(rig.start());
      rig.put_agent("/spire/agent/join_token/t", "8", "9");  // the gate has a step of its own: the promotion
      auto peer =
          c.local ? rig.local() : rig.remote({rig.certificate("spiffe://example.org/spire/agent/join_token/t")});
      auto open = rig.open(kService, c.method, std::move(peer));
      open.call->say(c.request);
      size_t step = 0;
      for (; step < 40 && !open.call->status; step++) {
        if (die_at > 0 && step == die_at) break;
        if (!rig.step()) rig.loop.run_next_timer();
      }
      if (die_at == 0) {
        steps = step;
        EXPECT_EQ(open.call->code(), Code::ok) << c.method << ": " << open.call->message();
      }
      open.flow.reset();
      rig.run();
    }
    EXPECT_GT(steps, 2u) << c.method;
  }
}

TEST(PostStatus, KeepsTheAgentsVersion) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  rig.put_agent("/spire/agent/join_token/t", "9");
  const wire::Peer agent = rig.remote({rig.certificate("spiffe://example.org/spire/agent/join_token/t")});
  wire::Message<spire_api_server_agent_v1_PostStatusRequest> request;
  using Response = spire_api_server_agent_v1_PostStatusResponse;
  wire::set_string(request->agent_version, std::string(256, 'v'));
  EXPECT_EQ(rig.unary<Response>("agent.v1.Agent", "PostStatus", agent, request).error().code, Code::invalid_argument);
  wire::set_string(request->agent_version, "1.15.3");
  EXPECT_TRUE(rig.unary<Response>("agent.v1.Agent", "PostStatus", agent, request));
  EXPECT_EQ(find_agent(rig.store->read(), "spiffe://example.org/spire/agent/join_token/t")->agent.agent_version,
            "1.15.3");
}

}  // namespace
}  // namespace limpet::server::test
