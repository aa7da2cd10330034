// SPDX-License-Identifier: Apache-2.0
#include "cli/server_commands.h"

#include <cstdio>

#include "cli/entry_data.h"
#include "cli/mint.h"
#include "cli/session.h"
#include "proto/spire_agent.pb.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::Message;
using wire::view;

namespace {

using TokenRequest = spire_api_server_agent_v1_CreateJoinTokenRequest;

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
  };
}

}  // namespace limpet::cli
