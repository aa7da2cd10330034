// SPDX-License-Identifier: Apache-2.0
// CreateJoinToken: the token and, when an agent ID is asked for, the alias entry that gives the agent that ID, in one
// commit.
#include "proto/spire_agent.pb.h"
#include "server/agent_api.h"
#include "server/wire_values.h"
#include "store/join_tokens.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

class CreateJoinTokenFlow final
    : public wire::UnaryFlow<spire_api_server_agent_v1_CreateJoinTokenRequest, spire_api_types_JoinToken> {
 public:
  CreateJoinTokenFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const spire_api_server_agent_v1_CreateJoinTokenRequest& request) override {
    if (request.ttl < 1) return refuse({Code::invalid_argument, "ttl is required, you must provide one"});
    SpiffeId alias;
    if (request.has_agent_id) {
      auto id = wire::read_id(true, request.agent_id);
      if (id) {
        if (auto good = check_workload_id(*id, context_.trust_domain); !good)
          id = std::unexpected(std::move(good).error());
      }
      if (!id) return refuse({Code::invalid_argument, "invalid agent ID: " + id.error().message});
      alias = std::move(*id);
    }
    token_.token = wire::view(request.token);
    if (token_.token.empty()) token_.token = random_uuid();
    token_.expires_at = context_.clock.now() + request.ttl;
    token_.agent_id = alias.text();
    auto agent = SpiffeId::make(context_.trust_domain, std::string(kAgentPrefix) + "join_token/" + token_.token);
    if (!agent) return refuse({Code::invalid_argument, "invalid token: " + agent.error().message});

    ChangeSet changes;
    create_join_token(changes, token_);
    if (!alias.empty()) context_.entries.create(changes, alias_entry(*agent, alias));
    context_.store.commit(std::move(changes), committed_.then<&CreateJoinTokenFlow::on_committed>(this));
  }

  [[nodiscard]] Entry alias_entry(const SpiffeId& agent, const SpiffeId& alias) const {
    Entry entry;
    entry.id = context_.entries.new_id(context_.clock.now());
    entry.parent_id = agent;
    entry.spiffe_id = alias;
    entry.selectors = {{"spiffe_id", agent.text()}};
    entry.created_at = context_.clock.now();
    return entry;
  }

  void on_committed(Result<uint64_t> revision) {
    if (!revision) {
      bool exists = revision.error().code == Code::aborted;
      return refuse({Code::internal,
                     "failed to create token: " + (exists ? "the token exists already" : revision.error().message)});
    }
    wire::Message<spire_api_types_JoinToken> response;
    wire::set_string(response->value, token_.token);
    response->expires_at = token_.expires_at;
    context_.logger.info("Join token created",
                         {{"agent_id", token_.agent_id}, {"expires_at", TimeText(token_.expires_at).rfc3339()}});
    reply(response);
  }

  Context& context_;
  JoinToken token_;
  Pending<uint64_t> committed_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_create_join_token(Context& context, wire::ServerCall& call) {
  return std::make_unique<CreateJoinTokenFlow>(context, call);
}

}  // namespace limpet::server
