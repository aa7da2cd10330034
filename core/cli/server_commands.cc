// SPDX-License-Identifier: Apache-2.0
#include "cli/server_commands.h"

#include <cstdio>

#include "base/clock.h"
#include "cli/entry_data.h"
#include "cli/mint.h"
#include "cli/session.h"
#include "proto/spire_agent.pb.h"
#include "proto/spire_debug.pb.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::view;

namespace {

using TokenRequest = spire_api_server_agent_v1_CreateJoinTokenRequest;
using InfoRequest = spire_api_server_debug_v1_GetInfoRequest;
using InfoResponse = spire_api_server_debug_v1_GetInfoResponse;

int token_generate(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    const auto ttl = context.flags->seconds("ttl");
    if (!ttl) return failed(ttl.error());
    Message<TokenRequest> request;
    request->ttl = *ttl;
    const std::string& id = context.flags->text("spiffeID");
    if (!id.empty()) {
      if (const auto set = set_id(request->has_agent_id, request->agent_id, id); !set) return failed(set.error());
    }
    const auto token =
        rpc.call<TokenRequest, spire_api_types_JoinToken>("/spire.api.server.agent.v1.Agent/CreateJoinToken", request);
    if (!token) return failed("", token.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*token).c_str());
      return 0;
    }
    std::printf("Token: %s\n", std::string(view((*token)->value)).c_str());
    if (id.empty()) std::puts("Warning: Missing SPIFFE ID.");
    return 0;
  });
}

int debug_getinfo(Context& context) {
  return with_rpc(context, kServer, [](Rpc& rpc, bool json) {
    const auto info =
        rpc.call<InfoRequest, InfoResponse>("/spire.api.server.debug.v1.Debug/GetInfo", Message<InfoRequest>());
    if (!info) return failed("", info.error());
    const InfoResponse& i = **info;
    if (json) {
      std::printf("%s\n", wire::to_json(*info).c_str());
      return 0;
    }
    std::printf("Server Debug Info:\n  Uptime:                  %s\n  Registered Agents:       %d\n",
                go_duration(int64_t{i.uptime} * 1'000'000'000).c_str(), i.agents_count);
    std::printf("  Registration Entries:    %d\n  Federated Bundles:       %d\n  SVID Chain:\n", i.entries_count,
                i.federated_bundles_count);
    size_t index = 0;
    for (const auto& cert : items(i.svid_chain, i.svid_chain_count)) {
      std::printf("    [%zu] SPIFFE ID:  %s\n        Subject:    %s\n        Expires At: %s\n", index++,
                  id_text(cert.has_id, cert.id).c_str(), std::string(view(cert.subject)).c_str(),
                  TimeText(cert.expires_at).rfc3339());
    }
    return 0;
  });
}

}  // namespace

std::vector<Command> server_commands() {
  return {
      {"token generate",
       kServer,
       "Makes a join token for one new agent",
       {{"ttl", FlagType::number, "600", "How long the token may be used, in seconds"},
        {"spiffeID", FlagType::text, "", "A further SPIFFE ID for the agent, to hang entries under"},
        server_socket_flag(),
        instance_flag(),
        output_flag()},
       token_generate},
      x509_mint_command(),
      jwt_mint_command(),
      {"debug getinfo",
       kServer,
       "Prints the server's state",
       {server_socket_flag(), instance_flag(), output_flag()},
       debug_getinfo},
  };
}

}  // namespace limpet::cli
