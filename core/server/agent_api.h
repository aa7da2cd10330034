// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.api.server.agent.v1.Agent (wire notes 5.2 and 6). Owned by Server; loop thread only.

#include <memory>

#include "server/caller.h"
#include "server/context.h"

namespace limpet::server {

class AgentApi final : public Api {
 public:
  explicit AgentApi(Context& context) : context_(context) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller& caller) override;

 private:
  Context& context_;
};

// The conversations of this API, one file each or one file per kind.
std::unique_ptr<wire::ServerFlow> open_attest_agent(Context& context, wire::ServerCall& call);  // agent_attest.cc
std::unique_ptr<wire::ServerFlow> open_renew_agent(Context& context, wire::ServerCall& call,
                                                   const Caller& caller);  // agent_renew.cc
std::unique_ptr<wire::ServerFlow> open_post_status(Context& context, wire::ServerCall& call,
                                                   const Caller& caller);                            // agent_renew.cc
std::unique_ptr<wire::ServerFlow> open_create_join_token(Context& context, wire::ServerCall& call);  // agent_token.cc
std::unique_ptr<wire::ServerFlow> open_list_agents(Context& context, wire::ServerCall& call);        // agent_list.cc
std::unique_ptr<wire::ServerFlow> open_count_agents(Context& context, wire::ServerCall& call);       // agent_list.cc
std::unique_ptr<wire::ServerFlow> open_get_agent(Context& context, wire::ServerCall& call);          // agent_list.cc
std::unique_ptr<wire::ServerFlow> open_delete_agent(Context& context, wire::ServerCall& call);       // agent_change.cc
std::unique_ptr<wire::ServerFlow> open_ban_agent(Context& context, wire::ServerCall& call);          // agent_change.cc

}  // namespace limpet::server
