// SPDX-License-Identifier: Apache-2.0
#include "server/pruner.h"

#include "store/entries.h"
#include "store/join_tokens.h"

namespace limpet::server {
namespace {
constexpr int64_t kTickMs = 300'000;
// Rows looked at in one turn of the loop, some 5 ms; also the most that one commit removes.
constexpr size_t kRowsPerTurn = 2'000;
}  // namespace

void Pruner::start() { tick_.start<&Pruner::on_tick>(kTickMs, this); }

// 1. a new round
void Pruner::on_tick() {
  entry_after_ = 0;
  token_after_.clear();
  entries_over_ = over_ = false;
  entries_ = tokens_ = 0;
  begun_ms_ = loop_.now_ms();
  on_turn();
}

// 2. a slice; the turn after it waits for the commit, if there is one
void Pruner::on_turn() {
  if (over_) return end_round();
  ChangeSet changes;
  {
    const Snapshot snapshot = store_.read();
    const auto over = entries_over_ ? tokens_slice(snapshot, changes) : entries_slice(snapshot, changes);
    if (!over) {
      logger_.warn("Expired entries and tokens not all found", {{"error", over.error().text()}});
      return end_round();
    }
    over_ = entries_over_ && *over;
    entries_over_ = entries_over_ || *over;
  }
  if (changes.empty()) return tick_.start<&Pruner::on_turn>(0, this);
  store_.commit(std::move(changes), pruned_.then<&Pruner::on_pruned>(this));
}

Result<bool> Pruner::entries_slice(const Snapshot& snapshot, ChangeSet& changes) {
  const int64_t now = clock_.now();
  size_t looked_at = 0;
  TRY(scan_entries(snapshot, entry_after_, [&](EntryRow&& row) {
    entry_after_ = row.row;
    if (row.entry.expires_at != 0 && row.entry.expires_at < now) {
      EntryTable::remove(changes, row);
      ++entries_;
    }
    return ++looked_at < kRowsPerTurn;
  }));
  return looked_at < kRowsPerTurn;
}

Result<bool> Pruner::tokens_slice(const Snapshot& snapshot, ChangeSet& changes) {
  const int64_t now = clock_.now();
  size_t looked_at = 0;
  TRY(scan_join_tokens(snapshot, token_after_, [&](JoinToken&& token) {
    if (token.expires_at < now) {
      take_join_token(changes, token.token);
      ++tokens_;
    }
    token_after_ = std::move(token.token);
    return ++looked_at < kRowsPerTurn;
  }));
  return looked_at < kRowsPerTurn;
}

// 3. that slice is gone from the disk
void Pruner::on_pruned(Result<uint64_t> revision) {
  if (revision) return on_turn();
  metrics_.call("registration_entry_manager_prune", revision.error().code, loop_.now_ms() - begun_ms_);
  // a row that changed meanwhile, or no room: the next round looks again
  logger_.warn("Expired entries and tokens not removed", {{"error", revision.error().text()}});
  tick_.start<&Pruner::on_tick>(kTickMs, this);
}

void Pruner::end_round() {
  if (entries_ > 0 || tokens_ > 0) {
    metrics_.call("registration_entry_manager_prune", Code::ok, loop_.now_ms() - begun_ms_);
    logger_.info("Pruned", {{"entries", std::to_string(entries_)}, {"join_tokens", std::to_string(tokens_)}});
  }
  tick_.start<&Pruner::on_tick>(kTickMs, this);
}

}  // namespace limpet::server
