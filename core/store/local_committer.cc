// SPDX-License-Identifier: Apache-2.0
#include "store/local_committer.h"

#include <algorithm>

#include "store/change_log.h"
#include "store/codec.h"

namespace limpet {

namespace {

constexpr size_t kPruneExtra =
    16;  // old revisions dropped beyond those that a commit adds, until the log is short enough

Result<void> check_keys(const ChangeSet& set, const Tables& tables) {
  auto bad = [&tables](TableId table, const Bytes& key) {
    return key.empty() || key.size() > kLongestKey || !tables.has(table) || table == kMetaTable || table == kLogTable;
  };
  for (const ChangeSet::Operation& op : set.operations()) {
    if (bad(op.table, op.key)) {
      return fail(Code::invalid_argument,
                  "write table " + std::string(table_name(op.table)) + ": a key has 1 to 511 bytes");
    }
  }
  return {};
}

}  // namespace

// Before the set's own operations run, so that a set that must not be applied leaves the transaction as it was.
Result<void> LocalCommitter::check(MDB_txn* txn, const ChangeSet& set) const {
  TRY(check_keys(set, tables_));
  for (const Precondition& condition : set.preconditions()) {
    BytesView value;
    int rc = get_checked(txn, tables_, condition.table, condition.key, value);
    if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND) {
      return fail(lmdb_error(rc, "read " + key_text(condition.table, condition.key) + " of", path_));
    }
    bool holds = rc == MDB_SUCCESS;
    if (condition.kind == Precondition::Kind::absent) holds = !holds;
    if (condition.kind == Precondition::Kind::equals) holds = holds && std::ranges::equal(value, condition.value);
    if (!holds) {
      return fail(Code::aborted,
                  "precondition failed: table " + std::string(table_name(condition.table)) + " has changed");
    }
  }
  return {};
}

int LocalCommitter::apply(MDB_txn* txn, const ChangeSet& set, uint64_t revision, std::vector<Change>& changes) {
  changes.reserve(set.operations().size());
  for (const ChangeSet::Operation& op : set.operations()) {
    int rc = MDB_SUCCESS;
    if (op.deleted) {
      MDB_val key = to_val(op.key);
      rc = mdb_del(txn, tables_[op.table], &key, nullptr);
      if (rc == MDB_NOTFOUND) continue;
    } else {
      rc = put_checked(txn, tables_, op.table, op.key, op.value);
    }
    if (rc != MDB_SUCCESS) return rc;
    changes.push_back({op.table, op.key, op.deleted});
  }
  return put_checked(txn, tables_, kLogTable, encode_u64(revision), encode_changes(changes), MDB_APPEND);
}

// A few at a time: the log shrinks over many commits and none of them pays for all.
int LocalCommitter::prune(MDB_txn* txn, uint64_t revision, size_t sets) {
  if (revision <= log_keep_) return MDB_SUCCESS;
  MDB_cursor* raw = nullptr;
  int rc = mdb_cursor_open(txn, tables_[kLogTable], &raw);
  if (rc != MDB_SUCCESS) return rc;
  CursorHandle cursor(raw);
  for (size_t i = 0; i < sets + kPruneExtra; ++i) {
    MDB_val key{}, value{};
    rc = mdb_cursor_get(cursor.get(), &key, &value, MDB_FIRST);
    if (rc == MDB_NOTFOUND) return MDB_SUCCESS;
    if (rc != MDB_SUCCESS) return rc;
    if (decode_u64(to_view(key)) > revision - log_keep_) return MDB_SUCCESS;
    rc = mdb_cursor_del(cursor.get(), 0);
    if (rc != MDB_SUCCESS) return rc;
  }
  return MDB_SUCCESS;
}

int LocalCommitter::try_commit(std::span<ChangeSet> sets, std::vector<Outcome>& outcomes) {
  MDB_txn* raw = nullptr;
  int rc = mdb_txn_begin(env_, nullptr, 0, &raw);
  if (rc != MDB_SUCCESS) return rc;
  TxnHandle txn(raw);
  BytesView kept;
  rc = get_checked(raw, tables_, kMetaTable, as_bytes(kRevisionKey), kept);
  if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND) return rc;
  uint64_t revision = decode_u64(kept);
  size_t applied = 0;
  for (ChangeSet& set : sets) {
    Outcome& outcome = outcomes.emplace_back();
    if (auto holds = check(raw, set); !holds) {
      outcome.revision = fail(std::move(holds).error());
      continue;
    }
    rc = apply(raw, set, revision + 1, outcome.changes);
    if (rc != MDB_SUCCESS) return rc;
    outcome.revision = ++revision;
    ++applied;
  }
  if (applied == 0) return MDB_SUCCESS;
  rc = prune(raw, revision, applied);
  if (rc != MDB_SUCCESS) return rc;
  rc = put_checked(raw, tables_, kMetaTable, as_bytes(kRevisionKey), encode_u64(revision));
  if (rc != MDB_SUCCESS) return rc;
  return mdb_txn_commit(txn.release());
}

std::vector<Committer::Outcome> LocalCommitter::commit(std::vector<ChangeSet>& group) {
  std::vector<Outcome> outcomes;
  outcomes.reserve(group.size());
  int rc = try_commit(group, outcomes);
  if (rc == MDB_SUCCESS) return outcomes;
  outcomes.clear();
  // each alone, so that only what cannot be written fails
  for (ChangeSet& set : group) {
    std::vector<Outcome> one;
    rc = group.size() == 1 ? rc : try_commit({&set, 1}, one);
    if (rc == MDB_SUCCESS) {
      outcomes.push_back(std::move(one.front()));
    } else {
      outcomes.push_back({std::unexpected(lmdb_error(rc, "write", path_)), {}});
    }
  }
  return outcomes;
}

}  // namespace limpet
