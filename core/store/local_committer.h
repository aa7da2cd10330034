// SPDX-License-Identifier: Apache-2.0
#pragma once
// The default committer: one LMDB transaction, and one fsync, for a whole group of change sets. Owned by the store (or
// by the committer that wraps it), used on the writer thread only.

#include <span>

#include "store/lmdb.h"

namespace limpet {

class LocalCommitter final : public Committer {
 public:
  // `env` outlives this.
  LocalCommitter(MDB_env* env, const Tables& tables, std::string path, uint64_t log_keep)
      : env_(env), tables_(tables), path_(std::move(path)), log_keep_(log_keep) {}

  std::vector<Outcome> commit(std::vector<ChangeSet>& group) override;

 private:
  // Applies the change sets in one transaction; an LMDB number when nothing of it was written.
  int try_commit(std::span<ChangeSet> sets, std::vector<Outcome>& outcomes);
  int apply(MDB_txn* txn, const ChangeSet& set, uint64_t revision, std::vector<Change>& changes);
  [[nodiscard]] Result<void> check(MDB_txn* txn, const ChangeSet& set) const;
  int prune(MDB_txn* txn, uint64_t revision, size_t sets);

  MDB_env* env_;
  const Tables& tables_;
  std::string path_;
  uint64_t log_keep_;
};

}  // namespace limpet
