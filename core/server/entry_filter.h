// SPDX-License-Identifier: Apache-2.0
#pragma once
// The filter of ListEntries and CountEntries (wire notes 5.10). A plain value.

#include <optional>
#include <string>
#include <vector>

#include "proto/spire_entry.pb.h"
#include "spiffe/entry.h"

namespace limpet::server {

struct EntryFilter {
  std::optional<SpiffeId> spiffe_id;
  std::optional<SpiffeId> parent_id;
  std::optional<SelectorSet> selectors;
  MatchBehavior selector_match = MatchBehavior::exact;
  std::optional<std::vector<std::string>> federates_with;
  MatchBehavior federates_match = MatchBehavior::exact;
  std::optional<std::string> hint;
  bool downstream = false;  // false filters nothing: only true does

  [[nodiscard]] bool takes(const Entry& entry) const;

  // INVALID_ARGUMENT "malformed SPIFFE ID filter: ..." and so on.
  static Result<EntryFilter> read(bool present, const spire_api_server_entry_v1_ListEntriesRequest_Filter& filter,
                                  const TrustDomain& trust_domain);
  static Result<EntryFilter> read(bool present, const spire_api_server_entry_v1_CountEntriesRequest_Filter& filter,
                                  const TrustDomain& trust_domain);
};

}  // namespace limpet::server
