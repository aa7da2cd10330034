// SPDX-License-Identifier: Apache-2.0
#include "cli/match.h"

namespace limpet::cli {

Result<MatchBehavior> match_behavior(const std::string& word) {
  if (word == "exact") return MatchBehavior::exact;
  if (word == "any") return MatchBehavior::any;
  if (word == "superset") return MatchBehavior::superset;
  if (word == "subset") return MatchBehavior::subset;
  return fail(Code::invalid_argument, "match behavior \"" + word + "\" unknown");
}

Result<void> fill_selector_match(spire_api_types_SelectorMatch& match, const std::string& behavior,
                                 const std::vector<std::string>& selectors) {
  TRY_ASSIGN(const MatchBehavior how, match_behavior(behavior));
  match.match = static_cast<spire_api_types_SelectorMatch_MatchBehavior>(how);
  auto* out = wire::set_array(match.selectors, match.selectors_count, selectors.size());
  for (size_t i = 0; i < selectors.size(); ++i) {
    TRY_ASSIGN(const Selector selector, Selector::parse(selectors[i]));
    wire::set_string(out[i].type, selector.type);
    wire::set_string(out[i].value, selector.value);
  }
  return {};
}

}  // namespace limpet::cli
