// SPDX-License-Identifier: Apache-2.0
#include "cli/server_commands.h"

#include <cstdio>

#include "base/clock.h"
#include "cli/entry_data.h"
#include "cli/mint.h"
#include "cli/session.h"
#include "proto/spire_agent.pb.h"
#include "proto/spire_bundle.pb.h"
#include "proto/spire_debug.pb.h"
#include "wire/api_types.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::view;

namespace {

using TokenRequest = spire_api_server_agent_v1_CreateJoinTokenRequest;
using BundleRequest = spire_api_server_bundle_v1_GetBundleRequest;
using BundleCountRequest = spire_api_server_bundle_v1_CountBundlesRequest;
using BundleCountResponse = spire_api_server_bundle_v1_CountBundlesResponse;
using InfoRequest = spire_api_server_debug_v1_GetInfoRequest;
using InfoResponse = spire_api_server_debug_v1_GetInfoResponse;

int token_generate(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    Message<TokenRequest> request;
    request->ttl = static_cast<int32_t>(context.flags->number("ttl"));
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

int bundle_show(Context& context) {
  const std::string& format = context.flags->text("format");
  if (format != "pem" && format != "spiffe") {
    return failed(Error{Code::invalid_argument, "invalid format: \"" + format + "\""});
  }
  return with_rpc(context, kServer, [&format](Rpc& rpc, bool json) {
    const auto bundle = rpc.call<BundleRequest, spire_api_types_Bundle>("/spire.api.server.bundle.v1.Bundle/GetBundle",
                                                                        Message<BundleRequest>());
    if (!bundle) return failed("", bundle.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*bundle).c_str());
      return 0;
    }
    if (format == "spiffe") {
      const auto parsed = wire::read_bundle(**bundle);
      if (!parsed) return failed(parsed.error());
      std::printf("%s\n", bundle_to_json(*parsed).c_str());
      return 0;
    }
    for (const auto& authority : items((*bundle)->x509_authorities, (*bundle)->x509_authorities_count)) {
      std::fputs(pem_encode("CERTIFICATE", view(authority.asn1)).c_str(), stdout);
    }
    return 0;
  });
}

int bundle_count(Context& context) {
  return with_rpc(context, kServer, [](Rpc& rpc, bool json) {
    const auto response = rpc.call<BundleCountRequest, BundleCountResponse>(
        "/spire.api.server.bundle.v1.Bundle/CountBundles", Message<BundleCountRequest>());
    if (!response) return failed("", response.error());
    if (json) {
      std::printf("{\"count\":%d}\n", (*response)->count);
    } else {
      std::printf("%s\n", counted(static_cast<uint64_t>((*response)->count), "bundle", "bundles").c_str());
    }
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
      {"bundle show",
       kServer,
       "Prints the trust bundle",
       {{"format", FlagType::text, "pem", "pem or spiffe"}, server_socket_flag(), instance_flag(), output_flag()},
       bundle_show},
      {"bundle count",
       kServer,
       "Counts trust bundles",
       {server_socket_flag(), instance_flag(), output_flag()},
       bundle_count},
      x509_mint_command(),
      {"debug getinfo",
       kServer,
       "Prints the server's state",
       {server_socket_flag(), instance_flag(), output_flag()},
       debug_getinfo},
  };
}

}  // namespace limpet::cli
