// SPDX-License-Identifier: Apache-2.0
#include "cli/debug_commands.h"

#include <cstdio>
#include <string>

#include "base/clock.h"
#include "cli/entry_data.h"
#include "cli/session.h"
#include "proto/agent_debug.pb.h"
#include "proto/spire_debug.pb.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::view;

namespace {

using ServerRequest = spire_api_server_debug_v1_GetInfoRequest;
using ServerInfo = spire_api_server_debug_v1_GetInfoResponse;
using AgentRequest = spire_agent_debug_v1_GetInfoRequest;
using AgentInfo = spire_agent_debug_v1_GetInfoResponse;

std::string uptime_text(int32_t seconds) { return go_duration(int64_t{seconds} * 1'000'000'000); }

// Both roles' certificates are the same but for their type.
template <class Info>
void print_chain(const Info& info) {
  std::printf("  SVID Chain:\n");
  size_t index = 0;
  for (const auto& cert : items(info.svid_chain, info.svid_chain_count)) {
    std::printf("    [%zu] SPIFFE ID:  %s\n        Subject:    %s\n        Expires At: %s\n", index++,
                id_text(cert.has_id, cert.id).c_str(), std::string(view(cert.subject)).c_str(),
                TimeText(cert.expires_at).rfc3339());
  }
}

int server_info(Context& context) {
  return with_rpc(context, kServer, [](Rpc& rpc, bool json) {
    const auto info =
        rpc.call<ServerRequest, ServerInfo>("/spire.api.server.debug.v1.Debug/GetInfo", Message<ServerRequest>());
    if (!info) return failed("", info.error());
    const ServerInfo& i = **info;
    if (json) {
      std::printf("%s\n", wire::to_json(*info).c_str());
      return 0;
    }
    std::printf("Server Debug Info:\n  Uptime:                  %s\n  Registered Agents:       %d\n",
                uptime_text(i.uptime).c_str(), i.agents_count);
    std::printf("  Registration Entries:    %d\n  Federated Bundles:       %d\n", i.entries_count,
                i.federated_bundles_count);
    print_chain(i);
    return 0;
  });
}

int agent_info(Context& context) {
  return with_rpc(context, kAgent, [](Rpc& rpc, bool json) {
    const auto info = rpc.call<AgentRequest, AgentInfo>("/spire.agent.debug.v1.Debug/GetInfo", Message<AgentRequest>());
    if (!info) return failed("", info.error());
    const AgentInfo& i = **info;
    if (json) {
      std::printf("%s\n", wire::to_json(*info).c_str());
      return 0;
    }
    std::printf("Agent Debug Info:\n  Uptime:                          %s\n", uptime_text(i.uptime).c_str());
    std::printf("  Last Sync Success:               %s\n",
                i.last_sync_success == 0 ? "(never)" : TimeText(i.last_sync_success).rfc3339());
    std::printf("  Cached X.509 SVIDs:              %d\n  Cached JWT SVIDs:                %d\n",
                i.cached_x509_svids_count, i.cached_jwt_svids_count);
    std::printf("  Cached SVID Store X.509 SVIDs:   %d\n", i.cached_svidstore_x509_svids_count);
    if (i.svid_chain_count > 0) print_chain(i);
    return 0;
  });
}

}  // namespace

std::vector<Command> debug_commands() {
  return {
      {"debug getinfo",
       kServer,
       "Prints the server's state",
       {server_socket_flag(), instance_flag(), output_flag()},
       server_info},
      {"debug getinfo",
       kAgent,
       "Prints the agent's state",
       {admin_socket_flag(), instance_flag(), output_flag()},
       agent_info},
  };
}

}  // namespace limpet::cli
