// SPDX-License-Identifier: Apache-2.0
#pragma once
// Selectors and registration entries as plain values, the rules an entry must meet, and how sets of selectors match.
// Pure: no I/O, time is a parameter. The store keeps entries as messages of its own; the wire has its own shape too.

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "spiffe/id.h"

namespace limpet {

struct Selector {
  std::string type;
  std::string value;
  auto operator<=>(const Selector&) const = default;
  [[nodiscard]] std::string text() const { return type + ":" + value; }
  // "unix:uid:1000" -> {"unix", "uid:1000"}. INVALID_ARGUMENT `selector "x" must be formatted as type:value`.
  static Result<Selector> parse(std::string_view text);
};
// Sorted by (type, value), duplicates removed.
using SelectorSet = std::vector<Selector>;
SelectorSet make_selector_set(std::vector<Selector> selectors);
bool is_subset(const SelectorSet& part, const SelectorSet& whole);  // both sorted

// The numbers are the wire's.
enum class MatchBehavior : int32_t { exact = 0, subset = 1, superset = 2, any = 3 };
// Does `have` (an entry's set) match `given` in the given way? SUBSET: have is within given; SUPERSET: the reverse.
bool matches(MatchBehavior behavior, const SelectorSet& have, const SelectorSet& given);
bool matches_names(MatchBehavior behavior, const std::vector<std::string>& have, const std::vector<std::string>& given);

struct Entry {
  std::string id;
  SpiffeId spiffe_id;
  SpiffeId parent_id;
  SelectorSet selectors;
  int32_t x509_svid_ttl = 0;  // seconds, 0: the server's default
  int32_t jwt_svid_ttl = 0;
  std::vector<std::string> federates_with;  // trust domain names
  bool admin = false;
  bool downstream = false;
  int64_t expires_at = 0;  // Unix seconds, 0: never
  std::vector<std::string> dns_names;
  int64_t revision_number = 0;
  bool store_svid = false;
  std::string hint;
  int64_t created_at = 0;
  bool has_additional_attributes = false;
  bool disable_x509_svid_prefetch = false;
  bool jwt_svid_include_jti = false;
};

// The rules of wire notes section 10. The text is what follows "failed to convert entry: " on the wire.
Result<void> check_entry(const Entry& entry, const TrustDomain& trust_domain);
Result<void> check_entry_id(std::string_view id);
Result<void> check_dns_name(std::string_view name);

}  // namespace limpet
