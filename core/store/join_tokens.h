// SPDX-License-Identifier: Apache-2.0
#pragma once
// Join tokens in the store. A token is used once: take_join_token removes it under the precondition that it is still
// there, so that of two attempts one is ABORTED. Loop thread only.

#include <functional>
#include <string>
#include <string_view>

#include "store/store.h"

namespace limpet {

struct JoinToken {
  std::string token;
  int64_t expires_at = 0;  // Unix seconds
  std::string agent_id;    // the alias asked for with the token; empty: none
  bool operator==(const JoinToken&) const = default;
};

// NOT_FOUND "join token not found"; DATA_LOSS. Expiry is the caller's to judge.
Result<JoinToken> find_join_token(const Snapshot& snapshot, std::string_view token);
// Visits the tokens that come after one (empty: all) in the table's order until `visit` returns false.
Result<void> scan_join_tokens(const Snapshot& snapshot, std::string_view after,
                              const std::function<bool(JoinToken&&)>& visit);
// ABORTED when the token exists by then.
void create_join_token(ChangeSet& changes, const JoinToken& token);
// ABORTED when the token is gone by then.
void take_join_token(ChangeSet& changes, std::string_view token);

Bytes encode_join_token(const JoinToken& token);
Result<JoinToken> decode_join_token(BytesView bytes);

}  // namespace limpet
