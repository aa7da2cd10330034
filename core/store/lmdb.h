// SPDX-License-Identifier: Apache-2.0
#pragma once
// LMDB's handles as owned objects, the tables of a store's data file, and LMDB's numbers as our errors. The file format
// in one sentence: one named LMDB database per table, every value preceded by its checksum (store/checksum.h).

#include <lmdb.h>

#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "store/checksum.h"
#include "store/store.h"

namespace limpet {

struct EnvClose {
  void operator()(MDB_env* env) const { mdb_env_close(env); }
};
struct TxnAbort {
  void operator()(MDB_txn* txn) const { mdb_txn_abort(txn); }
};
struct CursorClose {
  void operator()(MDB_cursor* cursor) const { mdb_cursor_close(cursor); }
};
using EnvHandle = std::unique_ptr<MDB_env, EnvClose>;
using TxnHandle = std::unique_ptr<MDB_txn, TxnAbort>;  // aborts unless release()d to mdb_txn_commit
using CursorHandle = std::unique_ptr<MDB_cursor, CursorClose>;

inline MDB_val to_val(BytesView view) { return {view.size(), const_cast<uint8_t*>(view.data())}; }
inline BytesView to_view(const MDB_val& val) { return {static_cast<const uint8_t*>(val.mv_data), val.mv_size}; }

inline constexpr uint32_t kSchema = 1;
inline constexpr size_t kLongestKey = 511;  // LMDB's compile-time default
inline constexpr unsigned kMaxTables = 64;
inline constexpr std::string_view kSchemaKey = "schema";      // meta -> u64 big-endian
inline constexpr std::string_view kRevisionKey = "revision";  // meta -> u64 big-endian

// The store's own tables stand below those of TableId.
inline constexpr auto kMetaTable = static_cast<TableId>(0);
inline constexpr auto kLogTable = static_cast<TableId>(1);  // revision (u64 big-endian) -> encoded changes
inline constexpr std::array kTables = {
    kMetaTable,           kLogTable,
    TableId::entries,     TableId::entry_ids,
    TableId::entry_keys,  TableId::agents,
    TableId::agent_ids,   TableId::join_tokens,
    TableId::bundles,     TableId::ca_journal,
    TableId::counters,    TableId::federation,
    TableId::enrollments, TableId::plugin_state,
    TableId::agent_state, TableId::agent_entries,
    TableId::agent_svids,
};
std::string_view table_name(TableId table);  // "entries", for people
std::string database_name(TableId table);    // "meta", "log", "t16": in the file

class Tables {
 public:
  // Opens every table; creates those that are missing if `create`. An LMDB number.
  int open(MDB_txn* txn, bool create);
  [[nodiscard]] MDB_dbi operator[](TableId table) const { return dbi_[static_cast<uint8_t>(table)]; }
  [[nodiscard]] bool has(TableId table) const { return present_[static_cast<uint8_t>(table)]; }

 private:
  std::array<MDB_dbi, 256> dbi_{};
  std::array<bool, 256> present_{};
};

// Reads a value and checks its checksum. `found` is empty and the answer MDB_NOTFOUND when the key is absent;
// MDB_CORRUPTED when the checksum is wrong.
int get_checked(MDB_txn* txn, const Tables& tables, TableId table, BytesView key, BytesView& found);
// Writes checksum and value.
int put_checked(MDB_txn* txn, const Tables& tables, TableId table, BytesView key, BytesView value, unsigned flags = 0);

// The error behind an LMDB number or errno, with the path and what to do next.
Error lmdb_error(int rc, std::string_view action, const std::string& path);
// Errors that speak of the disk and not of one change set.
bool is_disk_error(int rc);

// "entries 0000000000000001": a key as text for an error, at most 32 bytes of it.
std::string key_text(TableId table, BytesView key);

}  // namespace limpet
