// SPDX-License-Identifier: Apache-2.0
// RenewAgent and PostStatus: what an attested agent says about itself.
#include "proto/spire_agent.pb.h"
#include "server/agent_api.h"
#include "server/authorization.h"
#include "server/wire_values.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

constexpr int kAttempts = 5;

// The new serial stands beside the current one, so that an agent that never got this answer goes on with its old SVID;
// the gate makes it the current one when it is first used.
class RenewAgentFlow final : public wire::UnaryFlow<spire_api_server_agent_v1_RenewAgentRequest,
                                                    spire_api_server_agent_v1_RenewAgentResponse> {
 public:
  RenewAgentFlow(Context& context, wire::ServerCall& call, const Caller& caller)
      : UnaryFlow(call), context_(context), caller_(caller) {}

 private:
  // 1. asked
  void handle(const spire_api_server_agent_v1_RenewAgentRequest& request) override {
    if (request.has_params) csr_ = to_bytes(wire::view(request.params.csr));
    has_params_ = request.has_params;
    context_.limits.sign_x509.wait(call().peer().address.ip, 1, call().time_left_ms(),
                                   allowed_.then<&RenewAgentFlow::on_allowed>(this));
  }
  // 2. its turn has come
  void on_allowed(Result<void> allowed) {
    if (!allowed)
      return refuse(std::move(allowed).error().within("rejecting request due to renew agent rate limiting"));
    auto row = find_agent(context_.store.read(), caller_.id.text());
    if (!row && row.error().code == Code::not_found) return refuse({Code::not_found, "agent not found"});
    if (!row) return refuse(std::move(row).error().within("failed to fetch agent"));
    if (row->agent.can_reattest) {
      return refuse(permission_denied("agent must reattest instead of renew", DeniedReason::agent_must_reattest));
    }
    if (!has_params_) return refuse({Code::invalid_argument, "params cannot be nil"});
    if (csr_.empty()) return refuse({Code::invalid_argument, "missing CSR"});
    auto csr = Csr::parse(csr_);
    if (!csr) return refuse({Code::invalid_argument, "failed to parse CSR: " + csr.error().message});
    SvidRequest svid;
    svid.id = caller_.id;
    svid.spki = csr->key.spki();
    svid.subject_key_id = csr->key.key_id();
    svid.ttl = context_.agent_ttl();
    context_.ca.sign(std::move(svid), signed_.then<&RenewAgentFlow::on_signed>(this));
  }
  // 3. signed: remember the serial before the agent gets to know it
  void on_signed(Result<SignedSvid> svid) {
    if (!svid) return refuse(not_signed("failed to sign X509 SVID", svid.error()));
    svid_ = std::move(*svid);
    store();
  }
  void store() {
    auto row = find_agent(context_.store.read(), caller_.id.text());
    if (!row && row.error().code == Code::not_found) return refuse({Code::not_found, "agent not found"});
    if (!row) return refuse(std::move(row).error().within("failed to fetch agent"));
    if (row->agent.banned()) return refuse(permission_denied("agent is banned", DeniedReason::agent_banned));
    AgentRecord agent = row->agent;
    agent.new_serial = svid_.serial;
    agent.new_not_after = svid_.expires_at;
    ChangeSet changes;
    AgentTable::update(changes, *row, agent);
    context_.store.commit(std::move(changes), stored_.then<&RenewAgentFlow::on_stored>(this));
  }
  // 4. on disk
  void on_stored(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted && ++attempts_ < kAttempts) return store();
    if (!revision) return refuse({Code::internal, "failed to update agent: " + revision.error().message});
    context_.logger.info("Agent renewed",
                         {{"spiffe_id", caller_.id.text()}, {"expires_at", TimeText(svid_.expires_at).rfc3339()}});
    wire::Message<spire_api_server_agent_v1_RenewAgentResponse> response;
    response->has_svid = true;
    write_svid(response->svid, svid_, caller_.id);
    reply(response);
  }

  Context& context_;
  const Caller& caller_;
  bool has_params_ = false;
  Bytes csr_;
  SignedSvid svid_;
  int attempts_ = 0;
  Pending<void> allowed_;
  Pending<SignedSvid> signed_;
  Pending<uint64_t> stored_;
};

class PostStatusFlow final : public wire::UnaryFlow<spire_api_server_agent_v1_PostStatusRequest,
                                                    spire_api_server_agent_v1_PostStatusResponse> {
 public:
  PostStatusFlow(Context& context, wire::ServerCall& call, const Caller& caller)
      : UnaryFlow(call), context_(context), caller_(caller) {}

 private:
  void handle(const spire_api_server_agent_v1_PostStatusRequest& request) override {
    version_ = wire::view(request.agent_version);
    context_.limits.post_status.wait(call().peer().address.ip, 1, call().time_left_ms(),
                                     allowed_.then<&PostStatusFlow::on_allowed>(this));
  }
  void on_allowed(Result<void> allowed) {
    if (!allowed)
      return refuse(std::move(allowed).error().within("rejecting request due to post status rate limiting"));
    if (version_.size() > limits::kAgentVersionBytes) {
      return refuse({Code::invalid_argument,
                     "agent version is longer than " + std::to_string(limits::kAgentVersionBytes) + " bytes"});
    }
    store();
  }
  void store() {
    auto row = find_agent(context_.store.read(), caller_.id.text());
    if (!row && row.error().code == Code::not_found) return refuse({Code::not_found, "agent not found"});
    if (!row) return refuse(std::move(row).error().within("failed to fetch agent"));
    if (version_.empty() || row->agent.agent_version == version_) return answer();
    AgentRecord agent = row->agent;
    agent.agent_version = version_;
    ChangeSet changes;
    AgentTable::update(changes, *row, agent);
    context_.store.commit(std::move(changes), stored_.then<&PostStatusFlow::on_stored>(this));
  }
  void on_stored(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted && ++attempts_ < kAttempts) return store();
    if (!revision) return refuse({Code::internal, "failed to update agent: " + revision.error().message});
    answer();
  }
  void answer() { reply(wire::Message<spire_api_server_agent_v1_PostStatusResponse>()); }

  Context& context_;
  const Caller& caller_;
  std::string version_;
  int attempts_ = 0;
  Pending<void> allowed_;
  Pending<uint64_t> stored_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_renew_agent(Context& context, wire::ServerCall& call, const Caller& caller) {
  return std::make_unique<RenewAgentFlow>(context, call, caller);
}
std::unique_ptr<wire::ServerFlow> open_post_status(Context& context, wire::ServerCall& call, const Caller& caller) {
  return std::make_unique<PostStatusFlow>(context, call, caller);
}

}  // namespace limpet::server
