// SPDX-License-Identifier: Apache-2.0
#include "cli/agent_commands.h"

#include <cstdio>

#include "base/clock.h"
#include "cli/entry_data.h"
#include "cli/json.h"
#include "cli/match.h"
#include "cli/session.h"
#include "proto/google/protobuf/empty.pb.h"
#include "proto/spire_agent.pb.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::set_string;
using wire::view;

namespace {

using ListRequest = spire_api_server_agent_v1_ListAgentsRequest;
using ListResponse = spire_api_server_agent_v1_ListAgentsResponse;
using CountRequest = spire_api_server_agent_v1_CountAgentsRequest;
using CountResponse = spire_api_server_agent_v1_CountAgentsResponse;
using GetRequest = spire_api_server_agent_v1_GetAgentRequest;
using DeleteRequest = spire_api_server_agent_v1_DeleteAgentRequest;
using BanRequest = spire_api_server_agent_v1_BanAgentRequest;
constexpr int32_t kPage = 1000;

// "true" or "false" filter; any other word means all.
void set_choice(bool& present, bool& value, const std::string& word) {
  present = word == "true" || word == "false";
  value = word == "true";
}

template <class Filter>
Result<void> fill_filter(Filter& filter, const Flags& flags) {
  set_string(filter.by_attestation_type, flags.text("attestationType"));
  set_string(filter.by_expires_before, flags.text("expiresBefore"));
  set_choice(filter.has_by_banned, filter.by_banned.value, flags.text("banned"));
  set_choice(filter.has_by_can_reattest, filter.by_can_reattest.value, flags.text("canReattest"));
  if (flags.list("selector").empty()) return {};
  filter.has_by_selector_match = true;
  return fill_selector_match(filter.by_selector_match, flags.text("matchSelectorsOn"), flags.list("selector"));
}

struct Listing {
  std::vector<Message<ListResponse>> pages;
  std::vector<const spire_api_types_Agent*> agents;
};

// `fill` sets the filter of each page's request.
template <class Fill>
Result<Listing> list_agents(Rpc& rpc, Fill fill) {
  Listing listing;
  std::string token;
  do {
    Message<ListRequest> request;
    request->has_filter = true;
    TRY(fill(request->filter));
    request->page_size = kPage;
    set_string(request->page_token, token);
    auto page = rpc.call<ListRequest, ListResponse>("/spire.api.server.agent.v1.Agent/ListAgents", request);
    if (!page) return fail(Error{page.error().code, rpc_text(page.error())});
    token = view((*page)->next_page_token);
    listing.pages.push_back(std::move(*page));
    for (const auto& agent : items(listing.pages.back()->agents, listing.pages.back()->agents_count)) {
      listing.agents.push_back(&agent);
    }
  } while (!token.empty());
  return listing;
}

int list(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    const auto listing = list_agents(rpc, [&context](auto& filter) { return fill_filter(filter, *context.flags); });
    if (!listing) return failed(listing.error());
    if (json) {
      JsonWriter out;
      out.begin_object().key("agents").begin_array();
      for (const auto* agent : listing->agents) out.raw(wire::to_json(*agent));
      out.end_array().key("next_page_token").string("").end_object();
      std::printf("%s\n", out.text().c_str());
      return 0;
    }
    if (listing->agents.empty()) {
      std::puts("No attested agents found");
      return 0;
    }
    std::printf("Found %s:\n\n", counted(listing->agents.size(), "attested agent", "attested agents").c_str());
    for (const auto* agent : listing->agents) std::fputs(describe_agent(*agent).c_str(), stdout);
    return 0;
  });
}

int count(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    Message<CountRequest> request;
    request->has_filter = true;
    if (const auto filled = fill_filter(request->filter, *context.flags); !filled) return failed(filled.error());
    const auto response =
        rpc.call<CountRequest, CountResponse>("/spire.api.server.agent.v1.Agent/CountAgents", request);
    if (!response) return failed("", response.error());
    const int32_t number = (*response)->count;
    if (json) {
      std::printf("{\"count\":%d}\n", number);
    } else {
      std::printf("%s\n", counted(static_cast<uint64_t>(number), "attested agent", "attested agents").c_str());
    }
    return 0;
  });
}

// The ID every single-agent command wants.
template <class Request>
Result<void> fill_id(Message<Request>& request, const Flags& flags) {
  if (flags.text("spiffeID").empty()) return fail(Code::invalid_argument, "a SPIFFE ID is required");
  return set_id(request->has_id, request->id, flags.text("spiffeID"));
}

int show(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    Message<GetRequest> request;
    if (const auto filled = fill_id(request, *context.flags); !filled) return failed(filled.error());
    const auto agent =
        rpc.call<GetRequest, spire_api_types_Agent>("/spire.api.server.agent.v1.Agent/GetAgent", request);
    if (!agent) return failed("", agent.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*agent).c_str());
    } else {
      std::printf("Found an attested agent given its SPIFFE ID\n\n%s", describe_agent(**agent).c_str());
    }
    return 0;
  });
}

// Ban and evict: one call without an answer worth printing.
template <class Request>
int act(Context& context, const char* method, const char* done) {
  return with_rpc(context, kServer, [&context, method, done](Rpc& rpc, bool json) {
    Message<Request> request;
    if (const auto filled = fill_id(request, *context.flags); !filled) return failed(filled.error());
    const auto response = rpc.call<Request, google_protobuf_Empty>(method, request);
    if (!response) return failed("", response.error());
    std::puts(json ? "{}" : done);
    return 0;
  });
}

int ban(Context& context) {
  return act<BanRequest>(context, "/spire.api.server.agent.v1.Agent/BanAgent", "Agent banned successfully");
}
int evict(Context& context) {
  return act<DeleteRequest>(context, "/spire.api.server.agent.v1.Agent/DeleteAgent", "Agent evicted successfully");
}

struct Purged {
  std::string id;
  bool deleted = false;
  std::string error;
};

Purged purge_one(Rpc& rpc, const spire_api_types_Agent& agent, bool dry_run) {
  Purged result{id_text(agent.has_id, agent.id), false, ""};
  if (dry_run) return result;
  Message<DeleteRequest> request;
  if (const auto filled = set_id(request->has_id, request->id, result.id); !filled) {
    result.error = filled.error().message;
    return result;
  }
  const auto response =
      rpc.call<DeleteRequest, google_protobuf_Empty>("/spire.api.server.agent.v1.Agent/DeleteAgent", request);
  result.deleted = response.has_value();
  if (!response) result.error = rpc_text(response.error());
  return result;
}

void print_purged(const std::vector<Purged>& purged, bool dry_run) {
  if (purged.empty()) {
    std::puts("No agents to purge.");
    return;
  }
  std::printf("Found %s\n\n", counted(purged.size(), "expired agent", "expired agents").c_str());
  if (dry_run)
    std::puts("Agents that can be purged:");
  else
    std::puts("Agents purged:");
  for (const Purged& agent : purged) {
    if (dry_run || agent.deleted) std::printf("SPIFFE ID         : %s\n", agent.id.c_str());
  }
  for (const Purged& agent : purged) {
    if (agent.error.empty()) continue;
    std::printf("\nAgent not purged:\nSPIFFE ID         : %s\nError             : %s\n", agent.id.c_str(),
                agent.error.c_str());
  }
}

// Deletes agents that can attest again and whose SVID expired longer ago than -expiredFor.
int purge(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    const bool dry_run = context.flags->on("dryRun");
    const auto listing = list_agents(rpc, [](auto& filter) -> Result<void> {
      filter.has_by_can_reattest = true;
      filter.by_can_reattest.value = true;
      return {};
    });
    if (!listing) return failed(listing.error());
    const int64_t before = SystemClock().now() - context.flags->number("expiredFor") / 1000;
    std::vector<Purged> purged;
    Progress progress("agents", listing->agents.size());
    size_t looked_at = 0;
    for (const auto* agent : listing->agents) {
      if (agent->x509svid_expires_at <= before) purged.push_back(purge_one(rpc, *agent, dry_run));
      progress.at(++looked_at);
    }
    if (!json) {
      print_purged(purged, dry_run);
      return 0;
    }
    JsonWriter out;
    out.begin_object().key("expired_agents").begin_array();
    for (const Purged& agent : purged) {
      out.begin_object().key("agent_id").string(agent.id).key("deleted").boolean(agent.deleted);
      out.key("error").string(agent.error).end_object();
    }
    out.end_array().end_object();
    std::printf("%s\n", out.text().c_str());
    return 0;
  });
}

std::vector<Flag> filter_flags() {
  return {{"attestationType", FlagType::text, "", "Agents attested by this attestor, such as join_token"},
          {"banned", FlagType::text, "", "true: banned agents only; false: the others only"},
          {"canReattest", FlagType::text, "", "true: agents that can attest again only; false: the others only"},
          {"expiresBefore", FlagType::text, "", "Agents whose SVID expires before \"2006-01-02 15:04:05 -0700 -07\""},
          {"selector", FlagType::list, "", "Agents by selector; see -matchSelectorsOn"},
          {"matchSelectorsOn", FlagType::text, "superset", "How selectors match: exact, any, superset or subset"},
          server_socket_flag(),
          instance_flag(),
          output_flag()};
}

std::vector<Flag> id_flags() {
  return {
      {"spiffeID", FlagType::text, "", "The agent's SPIFFE ID"}, server_socket_flag(), instance_flag(), output_flag()};
}

}  // namespace

std::vector<Command> agent_commands() {
  return {
      {"agent list", kServer, "Lists attested agents", filter_flags(), list},
      {"agent count", kServer, "Counts attested agents", filter_flags(), count},
      {"agent show", kServer, "Shows one attested agent", id_flags(), show},
      {"agent ban", kServer, "Bans an agent: it can neither renew nor attest again", id_flags(), ban},
      {"agent evict", kServer, "Forgets an agent: it has to attest again", id_flags(), evict},
      {"agent purge",
       kServer,
       "Forgets agents that expired long ago and can attest again",
       {{"expiredFor", FlagType::duration, "720h", "How long ago the agent's SVID must have expired"},
        {"dryRun", FlagType::boolean, "false", "Only say which agents would be forgotten"},
        server_socket_flag(),
        instance_flag(),
        output_flag()},
       purge},
  };
}

}  // namespace limpet::cli
