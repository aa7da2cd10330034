// SPDX-License-Identifier: Apache-2.0
#include "server/pruner.h"

#include "store/entries.h"
#include "store/join_tokens.h"

namespace limpet::server {
namespace {
constexpr int64_t kTickMs = 300'000;
constexpr int64_t kSoonMs = 100;
constexpr size_t kAtOnce = 1000;  // rows in one commit
}  // namespace

void Pruner::start() { tick_.start<&Pruner::on_tick>(kTickMs, this); }

void Pruner::on_tick() {
  tick_.start<&Pruner::on_tick>(kTickMs, this);
  if (pruned_.armed()) return;
  entries_ = tokens_ = 0;
  begun_ms_ = loop_.now_ms();
  ChangeSet changes;
  {
    Snapshot snapshot = store_.read();
    int64_t now = clock_.now();
    auto scanned = scan_entries(snapshot, 0, [&](EntryRow&& row) {
      if (row.entry.expires_at == 0 || row.entry.expires_at >= now) return true;
      EntryTable::remove(changes, row);
      return ++entries_ < kAtOnce;
    });
    if (scanned) {
      scanned = scan_join_tokens(snapshot, [&](JoinToken&& token) {
        if (token.expires_at >= now) return true;
        take_join_token(changes, token.token);
        return ++tokens_ < kAtOnce;
      });
    }
    if (!scanned) logger_.warn("Expired entries and tokens not all found", {{"error", scanned.error().text()}});
  }
  if (!changes.empty()) store_.commit(std::move(changes), pruned_.then<&Pruner::on_pruned>(this));
}

void Pruner::on_pruned(Result<uint64_t> revision) {
  metrics_.call("registration_entry_manager_prune", revision ? Code::ok : revision.error().code,
                loop_.now_ms() - begun_ms_);
  if (!revision) {
    // a row that changed meanwhile: the next round looks again
    return logger_.warn("Expired entries and tokens not removed", {{"error", revision.error().text()}});
  }
  logger_.info("Pruned", {{"entries", std::to_string(entries_)}, {"join_tokens", std::to_string(tokens_)}});
  if (entries_ >= kAtOnce || tokens_ >= kAtOnce) tick_.start<&Pruner::on_tick>(kSoonMs, this);
}

}  // namespace limpet::server
