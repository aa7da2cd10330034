// SPDX-License-Identifier: Apache-2.0
// ListAgents, CountAgents and GetAgent.
#include <cstdio>
#include <ctime>

#include "proto/spire_agent.pb.h"
#include "server/agent_api.h"
#include "server/wire_values.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

using ListRequest = spire_api_server_agent_v1_ListAgentsRequest;
using ListResponse = spire_api_server_agent_v1_ListAgentsResponse;
using CountRequest = spire_api_server_agent_v1_CountAgentsRequest;
using CountResponse = spire_api_server_agent_v1_CountAgentsResponse;
using GetRequest = spire_api_server_agent_v1_GetAgentRequest;

// "2026-11-22 03:00:29 +0000 +00"; what does not look like it is ignored, as SPIRE does.
std::optional<int64_t> parse_expires_before(std::string_view text) {
  std::string copy(text);
  std::tm tm{};
  int offset = 0, zone = 0, used = 0;
  char sign = 0, zone_sign = 0;
  int fields = std::sscanf(copy.c_str(), "%4d-%2d-%2d %2d:%2d:%2d %c%4d %c%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
                           &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &sign, &offset, &zone_sign, &zone, &used);
  bool signs = (sign == '+' || sign == '-') && (zone_sign == '+' || zone_sign == '-');
  if (fields != 10 || static_cast<size_t>(used) != copy.size() || !signs || offset < 0 || offset > 2400)
    return std::nullopt;
  tm.tm_year -= 1900;
  tm.tm_mon -= 1;
  int64_t shift = (offset / 100) * 3600 + (offset % 100) * 60;
  return static_cast<int64_t>(timegm(&tm)) - (sign == '-' ? -shift : shift);
}

struct AgentFilter {
  std::string attestation_type;
  std::optional<SelectorSet> selectors;
  MatchBehavior match = MatchBehavior::exact;
  std::optional<bool> banned;
  std::optional<bool> can_reattest;
  std::optional<int64_t> expires_before;

  [[nodiscard]] bool takes(const AgentRecord& agent) const {
    if (!attestation_type.empty() && agent.attestation_type != attestation_type) return false;
    if (banned && agent.banned() != *banned) return false;
    if (can_reattest && agent.can_reattest != *can_reattest) return false;
    if (expires_before && agent.not_after >= *expires_before) return false;
    return !selectors || matches(match, agent.selectors, *selectors);
  }
};

// The two requests have filters of the same shape but of different types.
template <class Filter>
Result<AgentFilter> filter_from_wire(bool present, const Filter& filter) {
  AgentFilter out;
  if (!present) return out;
  out.attestation_type = wire::view(filter.by_attestation_type);
  if (filter.has_by_banned) out.banned = filter.by_banned.value;
  if (filter.has_by_can_reattest) out.can_reattest = filter.by_can_reattest.value;
  out.expires_before = parse_expires_before(wire::view(filter.by_expires_before));
  if (!filter.has_by_selector_match) return out;
  const spire_api_types_SelectorMatch& wanted = filter.by_selector_match;
  if (wanted.selectors_count == 0)
    return fail(Code::invalid_argument, "malformed selector match: selectors cannot be empty");
  int32_t behavior = enum_number(wanted.match);
  if (behavior < 0 || behavior > 3) {
    return fail(Code::invalid_argument, "malformed selector match: unknown match behavior " + std::to_string(behavior));
  }
  out.match = static_cast<MatchBehavior>(behavior);
  TRY_ASSIGN_WITHIN("failed to parse selectors", auto selectors,
                    wire::read_selectors(wanted.selectors, wanted.selectors_count));
  out.selectors = make_selector_set(std::move(selectors));
  return out;
}

void write_agent(spire_api_types_Agent& out, const AgentRecord& agent, const spire_api_types_AgentMask* mask) {
  wire::AgentRecord record;
  if (auto id = SpiffeId::parse(agent.id)) record.id = std::move(*id);
  record.attestation_type = agent.attestation_type;
  record.serial_number = agent.serial;
  record.expires_at = agent.not_after;
  record.selectors = agent.selectors;
  record.banned = agent.banned();
  record.can_reattest = agent.can_reattest;
  record.version = agent.agent_version;
  wire::write_agent(out, record, mask);
}

class ListAgentsFlow final : public wire::UnaryFlow<ListRequest, ListResponse> {
 public:
  ListAgentsFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const ListRequest& request) override {
    auto filter = filter_from_wire(request.has_filter, request.filter);
    if (!filter) return refuse(std::move(filter).error());
    uint64_t after = 0;
    const size_t limit = page_limit(request.page_size);
    if (request.page_size > 0) {
      auto token = parse_page_token(wire::view(request.page_token));
      if (!token) return refuse({Code::internal, "failed to list agents: " + token.error().message});
      after = *token;
    }
    std::vector<AgentRow> page;
    auto scanned = scan_agents(context_.store.read(), after, [&](AgentRow&& row) {
      if (filter->takes(row.agent)) page.push_back(std::move(row));
      return page.size() < limit;
    });
    if (!scanned) return refuse(std::move(scanned).error().within("failed to list agents"));
    if (request.page_size <= 0 && page.size() >= limit) {
      return refuse(too_many_items("failed to list agents"));
    }
    wire::Message<ListResponse> response;
    spire_api_types_Agent* agents = wire::set_array(response->agents, response->agents_count, page.size());
    const auto* mask = wire::mask_of(request.has_output_mask, request.output_mask);
    for (size_t i = 0; i < page.size(); i++) write_agent(agents[i], page[i].agent, mask);
    if (request.page_size > 0 && !page.empty())
      wire::set_string(response->next_page_token, std::to_string(page.back().row));
    reply(response);
  }
  Context& context_;
};

class CountAgentsFlow final : public wire::UnaryFlow<CountRequest, CountResponse> {
 public:
  CountAgentsFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const CountRequest& request) override {
    auto filter = filter_from_wire(request.has_filter, request.filter);
    if (!filter) return refuse(std::move(filter).error());
    Snapshot snapshot = context_.store.read();
    wire::Message<CountResponse> response;
    if (!request.has_filter) {
      response->count = static_cast<int32_t>(snapshot.count(TableId::agents));
      return reply(response);
    }
    auto scanned = scan_agents(snapshot, 0, [&](AgentRow&& row) {
      if (filter->takes(row.agent)) response->count++;
      return true;
    });
    if (!scanned) return refuse(std::move(scanned).error().within("failed to count agents"));
    reply(response);
  }
  Context& context_;
};

class GetAgentFlow final : public wire::UnaryFlow<GetRequest, spire_api_types_Agent> {
 public:
  GetAgentFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const GetRequest& request) override {
    auto id = wire::read_id(request.has_id, request.id);
    if (id) {
      if (auto good = check_agent_id(*id, context_.trust_domain); !good) id = std::unexpected(std::move(good).error());
    }
    if (!id) return refuse({Code::invalid_argument, "invalid agent ID: " + id.error().message});
    auto row = find_agent(context_.store.read(), id->text());
    if (!row && row.error().code == Code::not_found) return refuse({Code::not_found, "agent not found"});
    if (!row) return refuse(std::move(row).error().within("failed to fetch agent"));
    wire::Message<spire_api_types_Agent> response;
    write_agent(*response, row->agent, wire::mask_of(request.has_output_mask, request.output_mask));
    reply(response);
  }
  Context& context_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_list_agents(Context& context, wire::ServerCall& call) {
  return std::make_unique<ListAgentsFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_count_agents(Context& context, wire::ServerCall& call) {
  return std::make_unique<CountAgentsFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_get_agent(Context& context, wire::ServerCall& call) {
  return std::make_unique<GetAgentFlow>(context, call);
}

}  // namespace limpet::server
