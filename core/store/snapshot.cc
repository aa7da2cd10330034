// SPDX-License-Identifier: Apache-2.0
// Reading: one LMDB read transaction per snapshot, taken from a pool and given back.

#include "store/change_log.h"
#include "store/codec.h"
#include "store/engine.h"

namespace limpet {

namespace {
constexpr size_t kIdleReaders = 8;
}

Snapshot Store::read() const {
  auto snapshot = std::make_unique<Snapshot::Impl>(Snapshot::Impl{impl_->file, impl_->idle_readers, nullptr, {}});
  int rc = MDB_SUCCESS;
  if (!impl_->idle_readers.empty()) {
    snapshot->txn = impl_->idle_readers.back();
    impl_->idle_readers.pop_back();
    rc = mdb_txn_renew(snapshot->txn);
  } else {
    rc = mdb_txn_begin(impl_->file.env.get(), nullptr, MDB_RDONLY, &snapshot->txn);
  }
  if (rc != MDB_SUCCESS) {
    if (snapshot->txn != nullptr) mdb_txn_abort(snapshot->txn);
    snapshot->txn = nullptr;
    snapshot->failure = lmdb_error(rc, "read", impl_->file.path);
  }
  return Snapshot(std::move(snapshot));
}

Snapshot::Snapshot(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Snapshot::Snapshot(Snapshot&&) noexcept = default;
Snapshot::~Snapshot() {
  if (impl_ == nullptr || impl_->txn == nullptr) return;
  std::vector<MDB_txn*>& idle = impl_->idle_readers;
  if (idle.size() >= kIdleReaders) {
    mdb_txn_abort(impl_->txn);
  } else {
    mdb_txn_reset(impl_->txn);
    idle.push_back(impl_->txn);
  }
}

Result<BytesView> Snapshot::get(TableId table, BytesView key) const {
  if (impl_->txn == nullptr) return fail(impl_->failure);
  BytesView value;
  int rc = get_checked(impl_->txn, impl_->file.tables, table, key, value);
  if (rc == MDB_SUCCESS) return value;
  // without the key: most who ask expect this answer, and printing it costs more than finding it
  if (rc == MDB_NOTFOUND) return fail(Code::not_found, std::string(table_name(table)) + ": no such row");
  return fail(lmdb_error(rc, "read " + key_text(table, key) + " of", impl_->file.path));
}

uint64_t Snapshot::revision() const {
  auto kept = get(kMetaTable, as_bytes(kRevisionKey));
  return kept ? decode_u64(*kept) : 0;
}

Result<void> Snapshot::scan(TableId table, BytesView from,
                            const std::function<bool(BytesView, BytesView)>& visit) const {
  if (impl_->txn == nullptr) return fail(impl_->failure);
  const Tables& tables = impl_->file.tables;
  MDB_cursor* raw = nullptr;
  int rc = tables.has(table) ? mdb_cursor_open(impl_->txn, tables[table], &raw) : MDB_BAD_DBI;
  if (rc != MDB_SUCCESS) return fail(lmdb_error(rc, "read", impl_->file.path));
  CursorHandle cursor(raw);
  MDB_val key = to_val(from), value{};
  rc = mdb_cursor_get(raw, &key, &value, from.empty() ? MDB_FIRST : MDB_SET_RANGE);
  for (; rc == MDB_SUCCESS; rc = mdb_cursor_get(raw, &key, &value, MDB_NEXT)) {
    if (!checksum_holds(static_cast<uint8_t>(table), to_view(key), to_view(value))) {
      return fail(lmdb_error(MDB_CORRUPTED, "read " + key_text(table, to_view(key)) + " of", impl_->file.path));
    }
    if (!visit(to_view(key), to_view(value).subspan(kChecksumBytes))) return {};
  }
  if (rc != MDB_NOTFOUND) return fail(lmdb_error(rc, "read", impl_->file.path));
  return {};
}

uint64_t Snapshot::count(TableId table) const {
  MDB_stat stat{};
  const Tables& tables = impl_->file.tables;
  if (impl_->txn == nullptr || !tables.has(table) || mdb_stat(impl_->txn, tables[table], &stat) != MDB_SUCCESS)
    return 0;
  return stat.ms_entries;
}

Bytes Snapshot::last_key(TableId table) const {
  const Tables& tables = impl_->file.tables;
  MDB_cursor* raw = nullptr;
  if (impl_->txn == nullptr || !tables.has(table) || mdb_cursor_open(impl_->txn, tables[table], &raw) != MDB_SUCCESS)
    return {};
  CursorHandle cursor(raw);
  MDB_val key{}, value{};
  if (mdb_cursor_get(raw, &key, &value, MDB_LAST) != MDB_SUCCESS) return {};
  return to_bytes(to_view(key));
}

Result<void> Snapshot::changes(uint64_t after,
                               const std::function<bool(uint64_t revision, const std::vector<Change>&)>& visit) const {
  const uint64_t now = revision();
  if (after == now) return {};
  if (after > now) {
    return fail(Code::failed_precondition, "revision " + std::to_string(after) + " is not of this store, which is at " +
                                               std::to_string(now) + ": read everything anew");
  }
  uint64_t expected = after + 1;
  Result<void> verdict;
  auto on_row = [&expected, &visit, &verdict](BytesView key, BytesView value) {
    const uint64_t revision = decode_u64(key);
    auto changes = decode_changes(value);
    if (revision != expected) {
      verdict = fail(Code::failed_precondition,
                     "the change log begins after revision " + std::to_string(expected) + ": read everything anew");
    } else if (!changes) {
      verdict = fail(Code::data_loss, "change log: malformed revision " + std::to_string(revision));
    }
    if (!verdict) return false;
    ++expected;
    return visit(revision, *changes);
  };
  TRY(scan(kLogTable, encode_u64(expected), on_row));
  return verdict;
}

}  // namespace limpet
