// SPDX-License-Identifier: Apache-2.0
#include "store/join_tokens.h"

#include "store/codec.h"

namespace limpet {

Bytes encode_join_token(const JoinToken& token) {
  ProtoWriter out;
  out.text(1, token.token);
  out.number(2, token.expires_at);
  out.text(3, token.agent_id);
  return out.take();
}

Result<JoinToken> decode_join_token(BytesView bytes) {
  JoinToken token;
  ProtoReader in(bytes);
  while (in.next()) {
    if (in.field() == 1) token.token = in.text();
    if (in.field() == 2) token.expires_at = in.number();
    if (in.field() == 3) token.agent_id = in.text();
  }
  if (!in.ok()) return malformed_row("join token");  // the token itself is a secret
  return token;
}

Result<JoinToken> find_join_token(const Snapshot& snapshot, std::string_view token) {
  auto bytes = snapshot.get(TableId::join_tokens, text_key(token));
  if (!bytes && bytes.error().code == Code::not_found) return fail(Code::not_found, "join token not found");
  if (!bytes) return fail(std::move(bytes).error());
  return decode_join_token(*bytes);
}

Result<void> scan_join_tokens(const Snapshot& snapshot, std::string_view after,
                              const std::function<bool(JoinToken&&)>& visit) {
  Result<void> verdict;
  auto on_row = [&visit, &verdict](BytesView, BytesView value) {
    Result<JoinToken> token = decode_join_token(value);
    if (!token) {
      verdict = fail(std::move(token).error());
      return false;
    }
    return visit(std::move(*token));
  };
  Bytes from;
  if (!after.empty()) {
    from = text_key(after);
    from.push_back(0);  // the least key above it
  }
  TRY(snapshot.scan(TableId::join_tokens, from, on_row));
  return verdict;
}

void create_join_token(ChangeSet& changes, const JoinToken& token) {
  Bytes key = text_key(token.token);
  changes.require_absent(TableId::join_tokens, key);
  changes.put(TableId::join_tokens, key, encode_join_token(token));
}

void take_join_token(ChangeSet& changes, std::string_view token) {
  Bytes key = text_key(token);
  changes.require_present(TableId::join_tokens, key);
  changes.remove(TableId::join_tokens, key);
}

}  // namespace limpet
