// SPDX-License-Identifier: Apache-2.0
#include "spiffe/entry.h"

#include <algorithm>
#include <iterator>

#include "base/limits.h"

namespace limpet {

namespace {

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

std::string quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

bool intersect(const auto& sorted_a, const auto& sorted_b) {
  auto a = sorted_a.begin();
  auto b = sorted_b.begin();
  while (a != sorted_a.end() && b != sorted_b.end()) {
    if (*a == *b) return true;
    if (*a < *b) {
      ++a;
    } else {
      ++b;
    }
  }
  return false;
}

bool matches_sorted(MatchBehavior behavior, const auto& have, const auto& given) {
  switch (behavior) {
    case MatchBehavior::exact:
      return have == given;
    case MatchBehavior::subset:
      return std::ranges::includes(given, have);
    case MatchBehavior::superset:
      return std::ranges::includes(have, given);
    case MatchBehavior::any:
      return intersect(have, given);
  }
  return false;
}

std::vector<std::string> sorted(std::vector<std::string> names) {
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

bool is_reserved(std::string_view path) { return path == "/spire" || path.starts_with("/spire/"); }

std::string not_member(const SpiffeId& id, const TrustDomain& trust_domain, const char* kind) {
  return quoted(id.text()) + " is not a " + kind + " trust domain " + quoted(trust_domain.name());
}

Result<void> check_parent_id(const SpiffeId& id, const TrustDomain& trust_domain) {
  if (id.empty()) return invalid("request must specify SPIFFE ID");
  if (!id.member_of(trust_domain)) return invalid(not_member(id, trust_domain, "member of"));
  if (id.path().empty()) return invalid(not_member(id, trust_domain, "member of") + "; path is empty");
  return {};
}

Result<void> check_workload_id(const SpiffeId& id, const TrustDomain& trust_domain) {
  if (id.empty()) return invalid("request must specify SPIFFE ID");
  if (!id.member_of(trust_domain)) return invalid(not_member(id, trust_domain, "member of"));
  if (id.path().empty()) return invalid(not_member(id, trust_domain, "workload in") + "; path is empty");
  if (is_reserved(id.path()))
    return invalid(not_member(id, trust_domain, "workload in") + "; path is in the reserved namespace");
  return {};
}

Result<void> check_selectors(const SelectorSet& selectors, bool one_type) {
  if (selectors.empty()) return invalid("selector list is empty");
  for (const Selector& selector : selectors) {
    if (selector.type.empty()) return invalid("missing selector type");
    if (selector.type.find(':') != std::string::npos) return invalid("selector type contains ':'");
    if (selector.value.empty()) return invalid("missing selector value");
    if (one_type && selector.type != selectors.front().type)
      return invalid("invalid registration entry: selector types must be the same when store SVID is enabled");
  }
  return {};
}

Result<void> check_ttls(const Entry& entry) {
  if (entry.x509_svid_ttl < 0) return invalid("invalid registration entry: X509SvidTtl must not be negative");
  if (entry.jwt_svid_ttl < 0) return invalid("invalid registration entry: JwtSvidTtl must not be negative");
  if (entry.expires_at < 0) return invalid("invalid registration entry: expiry must not be negative");
  return {};
}

Result<void> check_label(std::string_view label) {
  const bool characters = std::ranges::all_of(label, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
  const bool hyphens =
      !label.starts_with('-') && !label.ends_with('-') && !(label.size() > 4 && label[2] == '-' && label[3] == '-');
  if (label.empty() || label.size() > 63 || !characters || !hyphens)
    return invalid("idna error\nidna: invalid label " + quoted(label));  // Go joins the two with a newline
  return {};
}

Result<void> check_plain_dns_name(std::string_view name) {
  if (name.find_first_not_of(" \t\r\n") == std::string_view::npos) return invalid("empty domain");
  if (name.ends_with('.')) return invalid("domain ends with dot");
  if (name.starts_with("*.")) return invalid("wildcard not allowed");
  if (name.size() > 253) return invalid("idna error\nidna: invalid label " + quoted(name.substr(0, 253)));
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find('.', at), name.size());
    const std::string_view label = name.substr(at, end - at);
    if (label.starts_with("xn--")) return invalid("no punycode domain");
    TRY(check_label(label));
    at = end + 1;
  }
  return {};
}

}  // namespace

Result<Selector> Selector::parse(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return invalid("selector " + quoted(text) + " must be formatted as type:value");
  return Selector{std::string(text.substr(0, colon)), std::string(text.substr(colon + 1))};
}

SelectorSet make_selector_set(std::vector<Selector> selectors) {
  std::ranges::sort(selectors);
  selectors.erase(std::unique(selectors.begin(), selectors.end()), selectors.end());
  return selectors;
}

bool is_subset(const SelectorSet& part, const SelectorSet& whole) { return std::ranges::includes(whole, part); }

bool matches(MatchBehavior behavior, const SelectorSet& have, const SelectorSet& given) {
  return matches_sorted(behavior, have, given);
}

bool matches_names(MatchBehavior behavior, const std::vector<std::string>& have,
                   const std::vector<std::string>& given) {
  return matches_sorted(behavior, sorted(have), sorted(given));
}

Result<void> check_dns_name(std::string_view name) {
  const auto stars = std::ranges::count(name, '*');
  if (stars == 0) return check_plain_dns_name(name);
  if (stars > 1) return invalid("too many wildcards");
  if (!name.starts_with("*.")) return invalid("wildcard must be first label");
  return check_plain_dns_name(name.substr(2));
}

Result<void> check_entry_id(std::string_view id) {
  if (id.size() > limits::kEntryIdBytes) return invalid("invalid registration entry: entry ID too long");
  const bool characters = std::ranges::all_of(id, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_';
  });
  if (!characters) return invalid("invalid registration entry: entry ID contains invalid characters");
  return {};
}

Result<void> check_entry(const Entry& entry, const TrustDomain& trust_domain) {
  TRY_WITHIN("invalid parent ID", check_parent_id(entry.parent_id, trust_domain));
  TRY_WITHIN("invalid spiffe ID", check_workload_id(entry.spiffe_id, trust_domain));
  for (const std::string& name : entry.dns_names) TRY_WITHIN("invalid DNS name", check_dns_name(name));
  for (const std::string& name : entry.federates_with)
    TRY_WITHIN("invalid federated trust domain", TrustDomain::parse(name));
  TRY(check_selectors(entry.selectors, entry.store_svid));
  if (entry.hint.size() > limits::kHintBytes) return invalid("hint is too long, max length is 1024 characters");
  TRY(check_entry_id(entry.id));
  TRY(check_ttls(entry));
  if (entry.store_svid && entry.disable_x509_svid_prefetch)
    return invalid("invalid registration entry: store_svid and disable_x509_svid_prefetch exclude each other");
  return {};
}

}  // namespace limpet
