// SPDX-License-Identifier: Apache-2.0
#pragma once
// The filters by set of selectors or trust domains, as flags give them.

#include <string>
#include <vector>

#include "proto/spire_types.pb.h"
#include "spiffe/entry.h"
#include "wire/message.h"

namespace limpet::cli {

// INVALID_ARGUMENT `match behavior "x" unknown`.
Result<MatchBehavior> match_behavior(const std::string& word);
Result<void> fill_selector_match(spire_api_types_SelectorMatch& match, const std::string& behavior,
                                 const std::vector<std::string>& selectors);

}  // namespace limpet::cli
