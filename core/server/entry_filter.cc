// SPDX-License-Identifier: Apache-2.0
#include "server/entry_filter.h"

#include <algorithm>

#include "server/wire_values.h"
#include "wire/api_types.h"

namespace limpet::server {

bool EntryFilter::takes(const Entry& entry) const {
  if (spiffe_id && entry.spiffe_id != *spiffe_id) return false;
  if (parent_id && entry.parent_id != *parent_id) return false;
  if (selectors && !matches(selector_match, entry.selectors, *selectors)) return false;
  if (federates_with && !matches_names(federates_match, entry.federates_with, *federates_with)) return false;
  if (hint && entry.hint != *hint) return false;
  return !downstream || entry.downstream;
}

namespace {

template <class Enum>
Result<MatchBehavior> read_behavior(const Enum& wire_value) {
  const int32_t number = enum_number(wire_value);
  if (number < 0 || number > 3) {
    return fail(Code::invalid_argument, "unknown match behavior " + std::to_string(number));
  }
  return static_cast<MatchBehavior>(number);
}

Result<SpiffeId> read_member_id(const spire_api_types_SPIFFEID& id, const TrustDomain& trust_domain) {
  TRY_ASSIGN(SpiffeId parsed, wire::read_id(true, id));
  TRY(check_member(parsed, trust_domain));
  return parsed;
}

Result<void> read_selector_match(const spire_api_types_SelectorMatch& match, EntryFilter& out) {
  if (match.selectors_count == 0) return fail(Code::invalid_argument, "empty selector set");
  TRY_ASSIGN(out.selector_match, read_behavior(match.match));
  TRY_ASSIGN(auto selectors, wire::read_selectors(match.selectors, match.selectors_count));
  out.selectors = make_selector_set(std::move(selectors));
  return {};
}

Result<void> read_federates_match(const spire_api_types_FederatesWithMatch& match, EntryFilter& out) {
  if (match.trust_domains_count == 0) return fail(Code::invalid_argument, "empty trust domain set");
  TRY_ASSIGN(out.federates_match, read_behavior(match.match));
  std::vector<std::string> names;
  for (const char* text : wire::items(match.trust_domains, match.trust_domains_count)) {
    TRY_ASSIGN(const TrustDomain name, TrustDomain::parse(wire::view(text)));
    names.push_back(name.name());
  }
  std::ranges::sort(names);
  out.federates_with = std::move(names);
  return {};
}

// The two requests have filters of the same shape but of different types.
template <class Filter>
Result<EntryFilter> read_filter(bool present, const Filter& filter, const TrustDomain& trust_domain) {
  EntryFilter out;
  if (!present) return out;
  if (filter.has_by_parent_id) {
    TRY_ASSIGN_WITHIN("malformed parent ID filter", out.parent_id, read_member_id(filter.by_parent_id, trust_domain));
  }
  if (filter.has_by_spiffe_id) {
    TRY_ASSIGN_WITHIN("malformed SPIFFE ID filter", out.spiffe_id, read_member_id(filter.by_spiffe_id, trust_domain));
  }
  if (filter.has_by_selectors) TRY_WITHIN("malformed selectors filter", read_selector_match(filter.by_selectors, out));
  if (filter.has_by_federates_with) {
    TRY_WITHIN("malformed federates with filter", read_federates_match(filter.by_federates_with, out));
  }
  if (filter.has_by_hint) out.hint = wire::view(filter.by_hint.value);
  out.downstream = filter.has_by_downstream && filter.by_downstream.value;
  return out;
}

}  // namespace

Result<EntryFilter> EntryFilter::read(bool present, const spire_api_server_entry_v1_ListEntriesRequest_Filter& filter,
                                      const TrustDomain& trust_domain) {
  return read_filter(present, filter, trust_domain);
}
Result<EntryFilter> EntryFilter::read(bool present, const spire_api_server_entry_v1_CountEntriesRequest_Filter& filter,
                                      const TrustDomain& trust_domain) {
  return read_filter(present, filter, trust_domain);
}

}  // namespace limpet::server
