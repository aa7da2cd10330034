// SPDX-License-Identifier: Apache-2.0
#include "server/agent_api.h"

namespace limpet::server {

std::unique_ptr<wire::ServerFlow> AgentApi::open(wire::ServerCall& call, const Caller& caller) {
  std::string_view method = call.method();
  method.remove_prefix(method.rfind('/') + 1);
  if (method == "AttestAgent") return open_attest_agent(context_, call);
  if (method == "RenewAgent") return open_renew_agent(context_, call, caller);
  if (method == "PostStatus") return open_post_status(context_, call, caller);
  if (method == "CreateJoinToken") return open_create_join_token(context_, call);
  if (method == "ListAgents") return open_list_agents(context_, call);
  if (method == "CountAgents") return open_count_agents(context_, call);
  if (method == "GetAgent") return open_get_agent(context_, call);
  if (method == "DeleteAgent") return open_delete_agent(context_, call);
  if (method == "BanAgent") return open_ban_agent(context_, call);
  return nullptr;
}

}  // namespace limpet::server
