// SPDX-License-Identifier: Apache-2.0
#include "store/lmdb.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>

namespace limpet {

std::string_view table_name(TableId table) {
  if (table == kMetaTable) return "meta";
  if (table == kLogTable) return "log";
  switch (table) {
    case TableId::entries:
      return "entries";
    case TableId::entry_ids:
      return "entry_ids";
    case TableId::entry_keys:
      return "entry_keys";
    case TableId::agents:
      return "agents";
    case TableId::agent_ids:
      return "agent_ids";
    case TableId::join_tokens:
      return "join_tokens";
    case TableId::bundles:
      return "bundles";
    case TableId::ca_journal:
      return "ca_journal";
    case TableId::counters:
      return "counters";
    case TableId::federation:
      return "federation";
    case TableId::enrollments:
      return "enrollments";
    case TableId::plugin_state:
      return "plugin_state";
    case TableId::agent_state:
      return "agent_state";
    case TableId::agent_entries:
      return "agent_entries";
    case TableId::agent_svids:
      return "agent_svids";
  }
  return "unknown";
}

std::string database_name(TableId table) {
  if (table == kMetaTable) return "meta";
  if (table == kLogTable) return "log";
  return "t" + std::to_string(static_cast<unsigned>(table));
}

int Tables::open(MDB_txn* txn, bool create) {
  for (TableId table : kTables) {
    auto index = static_cast<uint8_t>(table);
    if (present_[index]) continue;
    int rc = mdb_dbi_open(txn, database_name(table).c_str(), create ? MDB_CREATE : 0, &dbi_[index]);
    if (rc != MDB_SUCCESS) return rc;
    present_[index] = true;
  }
  return MDB_SUCCESS;
}

int get_checked(MDB_txn* txn, const Tables& tables, TableId table, BytesView key, BytesView& found) {
  found = {};
  if (key.empty() || key.size() > kLongestKey) return MDB_NOTFOUND;
  if (!tables.has(table)) return MDB_BAD_DBI;
  MDB_val k = to_val(key), v{};
  int rc = mdb_get(txn, tables[table], &k, &v);
  if (rc != MDB_SUCCESS) return rc;
  if (!checksum_holds(static_cast<uint8_t>(table), key, to_view(v))) return MDB_CORRUPTED;
  found = to_view(v).subspan(kChecksumBytes);
  return MDB_SUCCESS;
}

int put_checked(MDB_txn* txn, const Tables& tables, TableId table, BytesView key, BytesView value, unsigned flags) {
  if (!tables.has(table)) return MDB_BAD_DBI;
  MDB_val k = to_val(key);
  MDB_val v{value.size() + kChecksumBytes, nullptr};
  int rc = mdb_put(txn, tables[table], &k, &v, flags | MDB_RESERVE);
  if (rc != MDB_SUCCESS) return rc;
  auto* out = static_cast<uint8_t*>(v.mv_data);
  store_checksum(out, value_checksum(static_cast<uint8_t>(table), key, value));
  if (!value.empty()) std::memcpy(out + kChecksumBytes, value.data(), value.size());
  return MDB_SUCCESS;
}

bool is_disk_error(int rc) {
  switch (rc) {
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case MDB_PANIC:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EROFS:
    case EIO:
    case EACCES:
    case EPERM:
    case ENOMEM:
      return true;
    default:
      return false;
  }
}

namespace {

// LMDB says EIO for a write that was cut short, which is what the last free block looks like.
bool looks_full(const std::string& path) {
  struct statvfs fs{};
  struct stat file{};
  struct rlimit limit{};
  if (::stat(path.c_str(), &file) != 0) return false;
  if (::statvfs(path.c_str(), &fs) == 0 && fs.f_bavail < 64) return true;
  return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
         static_cast<uint64_t>(file.st_size) + (1u << 20) > limit.rlim_cur;
}

}  // namespace

Error lmdb_error(int rc, std::string_view action, const std::string& path) {
  const std::string what = std::string(action) + " " + path + ": ";
  if (rc == EIO && looks_full(path)) rc = ENOSPC;
  const std::string reason = rc > 0 ? std::strerror(rc) : mdb_strerror(rc);
  switch (rc) {
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
      return {Code::resource_exhausted,
              what + "the store has reached its largest size: delete entries or agents that are not needed"};
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return {Code::resource_exhausted,
              what + "no space left: free space on its file system; reads go on and writes resume by themselves"};
    case EROFS:
    case EACCES:
    case EPERM:
      return {Code::unavailable,
              what + reason + ": make the file, its directory and its file system writable for this user"};
    case EIO:
      return {Code::unavailable, what + "input/output error: check the disk and the kernel's log"};
    case MDB_PANIC:
      return {Code::unavailable, what + "an earlier write to its first pages failed: check the disk, then restart"};
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
      return {Code::data_loss, what + "damaged (" + reason + "): restart to have it checked and set aside"};
    case MDB_BAD_VALSIZE:
      return {Code::invalid_argument, what + "a key is empty or longer than 511 bytes"};
    case ENOMEM:
      return {Code::resource_exhausted, what + "out of memory"};
    default:
      return {Code::unavailable, what + reason};
  }
}

std::string key_text(TableId table, BytesView key) {
  return std::string(table_name(table)) + " " + hex_encode(key.first(key.size() < 32 ? key.size() : 32));
}

}  // namespace limpet
