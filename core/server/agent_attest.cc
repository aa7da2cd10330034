// SPDX-License-Identifier: Apache-2.0
// AttestAgent (wire notes section 6): one attempt of one agent, from its payload over any challenges to its SVID.
// The join token's server half is here, because the store owns the tokens; every other type is an attestor plugin's.
#include <algorithm>

#include "proto/spire_agent.pb.h"
#include "server/agent_api.h"
#include "server/wire_values.h"
#include "store/join_tokens.h"

namespace limpet::server {
namespace {

using Request = spire_api_server_agent_v1_AttestAgentRequest;
using Response = spire_api_server_agent_v1_AttestAgentResponse;

constexpr std::string_view kJoinToken = "join_token";
constexpr int64_t kDeadlineMs = 120'000;  // from the payload to the result; TPMs and slow links need their time
constexpr int kAttempts = 5;

constexpr size_t kMostTypeBytes = 255;

class AttestAgentFlow final : public wire::ServerFlow {
 public:
  AttestAgentFlow(Context& context, wire::ServerCall& call) : context_(context), call_(call), deadline_(context.loop) {}

  void start() override {
    deadline_.start<&AttestAgentFlow::on_deadline>(kDeadlineMs, this);
    context_.limits.attest.wait(call_.peer().address.ip, 1, call_.time_left_ms(),
                                allowed_.then<&AttestAgentFlow::on_allowed>(this));
  }

 private:
  // 1. its turn has come
  void on_allowed(Result<void> allowed) {
    if (!allowed) return end(std::move(allowed).error().within("rejecting request due to attest agent rate limiting"));
    deadline_.start<&AttestAgentFlow::on_deadline>(kDeadlineMs, this);  // from here on anew: it waited its turn
    call_.receive(received_.then<&AttestAgentFlow::on_params>(this));
  }

  // 2. the agent says what it is and wants
  void on_params(Result<std::optional<Bytes>> message) {
    auto request = decode(std::move(message), "failed to receive request from stream");
    if (!request) return end(std::move(request).error());
    if (std::string problem = take_params(**request); !problem.empty())
      return end({Code::invalid_argument, "malformed param: " + problem});
    if (type_ == kJoinToken) return check_join_token();
    auto attestor =
        std::ranges::find_if(context_.attestors, [&](const NodeAttestorServer* a) { return a->name() == type_; });
    if (attestor == context_.attestors.end()) {
      return end({Code::failed_precondition,
                  "error getting node attestor: could not find node attestor type \"" + type_ + "\""});
    }
    session_ = (*attestor)->open(call_.peer().address.ip);
    session_->step(std::move(payload_), verdict_.then<&AttestAgentFlow::on_verdict>(this));
  }
  std::string take_params(const Request& request) {
    if (!request.has_params) return "missing params";
    if (!request.params.has_data) return "missing attestation data";
    if (!request.params.has_params) return "missing X509-SVID parameters";
    csr_ = to_bytes(wire::view(request.params.params.csr));
    type_ = wire::view(request.params.data.type);
    payload_ = to_bytes(wire::view(request.params.data.payload));
    if (csr_.empty()) return "missing CSR";
    if (type_.empty()) return "missing attestation data type";
    if (type_.size() > kMostTypeBytes) {
      type_.clear();
      return "attestation data type is longer than any node attestor's name";
    }
    if (payload_.empty()) return "missing attestation data payload";
    return {};
  }

  // 3a. join token: it is taken away together with writing the agent's record (step 6), not before
  void check_join_token() {
    token_ = as_text(payload_);
    auto token = find_join_token(context_.store.read(), token_);
    if (!token && token.error().code == Code::not_found) return end_used_token();
    if (!token) return end({Code::internal, "failed to fetch join token: " + token.error().message});
    if (token->expires_at < context_.clock.now()) {
      ChangeSet changes;
      take_join_token(changes, token_);
      return context_.store.commit(std::move(changes), stored_.then<&AttestAgentFlow::on_expired_token_gone>(this));
    }
    auto id = SpiffeId::make(context_.trust_domain, std::string(kAgentPrefix) + "join_token/" + token_);
    if (!id) return end({Code::internal, "failed to create join token agent ID: " + id.error().message});
    id_ = std::move(*id);
    on_attested();
  }
  void end_used_token() {
    end({Code::invalid_argument, "failed to attest: join token does not exist or has already been used"});
  }
  void on_expired_token_gone(Result<uint64_t>) { end({Code::invalid_argument, "join token expired"}); }

  // 3b. the attestor wants another round, or has decided
  void on_verdict(Result<AttestStep> step) {
    if (!step) return end(std::move(step).error());  // it carries "nodeattestor(<type>): " already
    if (!step->attested) return challenge(std::move(step->challenge));
    auto id = SpiffeId::make(context_.trust_domain, step->agent_path);
    if (!id) return end({Code::internal, "invalid agent ID: " + id.error().message});
    if (id->path() == kServerPath) return end({Code::internal, "agent ID cannot collide with the server ID"});
    if (!id->path().starts_with(std::string(kAgentPrefix) + type_ + "/")) {
      context_.logger.warn("The node attestor produced an invalid agent ID; the namespace is that of another attestor",
                           {{"node_attestor_type", type_}, {"agent_id", id->text()}});
    }
    id_ = std::move(*id);
    can_reattest_ = step->can_reattest;
    for (std::string& value : step->selectors) selectors_.push_back({type_, std::move(value)});
    on_attested();
  }
  void challenge(Bytes challenge) {
    if (++rounds_ > limits::kAttestationRounds)
      return end({Code::resource_exhausted, "nodeattestor(" + type_ + "): too many challenges"});
    wire::Message<Response> response;
    wire::set_present(response->challenge, challenge);
    auto bytes = response.encode();
    if (!bytes) return end(std::move(bytes).error());
    call_.send(std::move(*bytes), sent_.then<&AttestAgentFlow::on_challenge_sent>(this));
  }
  void on_challenge_sent(Result<void> sent) {
    if (!sent) return end(std::move(sent).error().within("failed to send challenge to agent"));
    call_.receive(received_.then<&AttestAgentFlow::on_answer>(this));
  }
  void on_answer(Result<std::optional<Bytes>> message) {
    auto request = decode(std::move(message), "failed to receive challenge response from agent");
    if (!request) return end(std::move(request).error());
    session_->step(to_bytes(wire::view((*request)->challenge_response)),
                   verdict_.then<&AttestAgentFlow::on_verdict>(this));
  }

  // 4. it is who it says: may it, and is the CSR sound? Its own signature is not looked at, as SPIRE does not.
  void on_attested() {
    auto row = find_agent(context_.store.read(), id_.text());
    if (!row && row.error().code != Code::not_found)
      return end({Code::internal, "failed to fetch agent: " + row.error().message});
    if (row && row->agent.banned()) return end({Code::permission_denied, "failed to attest: agent is banned"});
    known_ = row.has_value();
    auto csr = Csr::parse(csr_);
    if (!csr) return end({Code::invalid_argument, "failed to parse CSR: " + csr.error().message});
    SvidRequest svid;
    svid.id = id_;
    svid.spki = csr->key.spki();
    svid.subject_key_id = csr->key.key_id();
    svid.ttl = context_.agent_ttl();
    context_.ca.sign(std::move(svid), signed_.then<&AttestAgentFlow::on_signed>(this));
  }

  // 5. signed: the record, before the agent learns its serial
  void on_signed(Result<SignedSvid> svid) {
    if (!svid) return end(not_signed("failed to sign X509 SVID", svid.error()));
    svid_ = std::move(*svid);
    store();
  }
  void store() {
    ChangeSet changes;
    {
      Snapshot snapshot = context_.store.read();
      auto row = find_agent(snapshot, id_.text());
      if (!row && row.error().code != Code::not_found)
        return end({Code::internal, "failed to fetch agent: " + row.error().message});
      if (row && row->agent.banned()) return end({Code::permission_denied, "failed to attest: agent is banned"});
      // two at once, and the attestor takes the first only: its verdict on this one was given before the other was
      // stored
      if (row && !known_ && !can_reattest_ && token_.empty())
        return end(
            {Code::permission_denied, "failed to attest: attestation data was used meanwhile to attest an agent"});
      if (!token_.empty()) {
        if (!find_join_token(snapshot, token_)) return end_used_token();
        take_join_token(changes, token_);
      }
      AgentRecord agent = row ? row->agent : AgentRecord{};
      fill(agent);
      if (row) {
        AgentTable::update(changes, *row, agent);
      } else {
        context_.agents.create(changes, agent);
      }
    }
    context_.store.commit(std::move(changes), stored_.then<&AttestAgentFlow::on_stored>(this));
  }
  void fill(AgentRecord& agent) const {
    std::vector<Selector> selectors = selectors_;
    if (context_.config.agent_spiffe_id_as_selector) selectors.push_back({"spiffe_id", id_.text()});
    agent.id = id_.text();
    agent.attestation_type = type_;
    agent.serial = svid_.serial;
    agent.not_after = svid_.expires_at;
    agent.new_serial.clear();
    agent.new_not_after = 0;
    agent.selectors = make_selector_set(std::move(selectors));
    agent.can_reattest = can_reattest_;
  }

  // 6. on disk: the answer
  void on_stored(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted && ++attempts_ < kAttempts) return store();
    if (!revision) return end({Code::internal, "failed to create attested agent: " + revision.error().message});
    wire::Message<Response> response;
    response->has_result = true;
    response->result.has_svid = true;
    response->result.reattestable = can_reattest_;
    write_svid(response->result.svid, svid_, id_);
    auto bytes = response.encode();
    if (!bytes) return end(std::move(bytes).error());
    call_.send(std::move(*bytes), sent_.then<&AttestAgentFlow::on_result_sent>(this));
  }
  void on_result_sent(Result<void> sent) {
    if (!sent) return end(std::move(sent).error().within("failed to send response over stream"));
    context_.logger.info(
        "Agent attestation request completed",
        {{"address", call_.peer().address.text()}, {"agent_id", id_.text()}, {"node_attestor_type", type_}});
    deadline_.stop();
    call_.finish({});
  }

  static Result<wire::Message<Request>> decode(Result<std::optional<Bytes>> message, std::string_view what) {
    if (!message) return std::unexpected(std::move(message).error().within(what));
    if (!*message) return fail(Code::invalid_argument, std::string(what) + ": EOF");
    auto request = wire::Message<Request>::decode(**message);
    if (!request) return std::unexpected(std::move(request).error().within(what));
    return request;
  }
  void on_deadline() {
    end({Code::deadline_exceeded, "attestation took longer than " + std::to_string(kDeadlineMs / 1000) + " s"});
  }
  // Whatever is in flight is forgotten: nothing may follow the status.
  void end(Error error) {
    deadline_.stop();
    received_.drop();
    verdict_.drop();
    signed_.drop();
    sent_.drop();
    stored_.drop();
    context_.logger.from_stranger(LogLevel::error, "Agent attestation failed",
                                  {{"address", call_.peer().address.text()},
                                   {"agent_id", id_.text()},
                                   {"node_attestor_type", type_},
                                   {"error", error.text()}});
    call_.finish(std::unexpected(std::move(error)));
  }

  Context& context_;
  wire::ServerCall& call_;
  Timer deadline_;
  std::string type_;
  std::string token_;
  Bytes payload_;
  Bytes csr_;
  SpiffeId id_;
  std::vector<Selector> selectors_;
  bool can_reattest_ = false;
  bool known_ = false;  // the agent had a record when the verdict came
  SignedSvid svid_;
  int rounds_ = 0;
  int attempts_ = 0;
  std::unique_ptr<NodeAttestorServerSession> session_;
  Pending<void> allowed_;
  Pending<std::optional<Bytes>> received_;
  Pending<AttestStep> verdict_;
  Pending<SignedSvid> signed_;
  Pending<void> sent_;
  Pending<uint64_t> stored_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_attest_agent(Context& context, wire::ServerCall& call) {
  return std::make_unique<AttestAgentFlow>(context, call);
}

}  // namespace limpet::server
