// SPDX-License-Identifier: Apache-2.0
#include "store/store_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "base/sync_directory.h"
#include "store/check.h"
#include "store/codec.h"

namespace limpet {

namespace {

constexpr uint64_t kMap = sizeof(void*) == 8 ? uint64_t{16} << 30 : uint64_t{1} << 30;
constexpr uint64_t kSmallestMap = uint64_t{64} << 20;
constexpr unsigned kReaders = 126;  // LMDB's default; the loop needs a handful
constexpr off_t kLockFileBytes = 16384;
constexpr int kOwnerTries = 10;
constexpr useconds_t kOwnerWaitUs = 20'000;

// MDB_NOTLS: read transactions are pooled objects, not tied to threads.
// MDB_NORDAHEAD: reads are scattered; pages nobody asked for would only add to what stays resident.
// Not MDB_WRITEMAP: a stray write would reach the disk. Not MDB_NOMEMINIT: freed heap, keys among it, would reach the
// disk.
constexpr unsigned kEnvFlags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD;

// LMDB maps its lock file and writes to it: a hole in it, on a full disk, would be a SIGBUS. So it gets its blocks
// first.
Result<void> prepare_lock_file(const std::string& path) {
  const std::string lock = path + "-lock";
  int fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return fail(lmdb_error(errno, "open", lock));
  int rc = ::posix_fallocate(fd, 0, kLockFileBytes);
  ::close(fd);
  if (rc != 0) return fail(lmdb_error(rc, "create", lock));
  return {};
}

Result<std::string> set_aside(const std::string& path, const std::string& reason) {
  const std::string base = path + ".damaged-" + std::to_string(std::time(nullptr));
  std::string aside = base;
  for (int i = 1; ::access(aside.c_str(), F_OK) == 0; ++i) aside = base + "." + std::to_string(i);
  if (::rename(path.c_str(), aside.c_str()) != 0) {
    return fail(lmdb_error(errno, "set aside the damaged store", path));
  }
  sync_directory_of(path);
  return path + " was damaged (" + reason + ") and was set aside as " + aside +
         "; a new, empty store was begun. Lost is what only that file held: on a server registration entries, attested "
         "agents, "
         "join tokens, bundles of other trust domains and the CA journal; on an agent its cache, which fills again "
         "from the server. "
         "To restore: stop limpet, copy a backup over " +
         path + ", start it again";
}

Result<EnvHandle> open_env(const StoreOptions& options, const std::string& path, unsigned flags) {
  uint64_t map = options.map_bytes != 0 ? options.map_bytes : kMap;
  for (;; map /= 2) {
    MDB_env* raw = nullptr;
    int rc = mdb_env_create(&raw);
    if (rc != MDB_SUCCESS) return fail(lmdb_error(rc, "open", path));
    EnvHandle env(raw);
    mdb_env_set_maxdbs(raw, kMaxTables);
    mdb_env_set_maxreaders(raw, kReaders);
    mdb_env_set_mapsize(raw, static_cast<size_t>(map));
    rc = mdb_env_open(raw, path.c_str(), flags, 0600);
    if (rc == MDB_SUCCESS) return env;
    // an address space limit: a smaller map will do until the store outgrows it
    if (rc == ENOMEM && options.map_bytes == 0 && map / 2 >= kSmallestMap) continue;
    return fail(lmdb_error(rc, "open", path));
  }
}

std::unexpected<Error> refuse_newer(const std::string& path, uint64_t schema) {
  return fail(Code::failed_precondition, "open " + path + ": written by a newer version (schema " +
                                             std::to_string(schema) + ", this version knows " +
                                             std::to_string(kSchema) +
                                             "): upgrade limpet, or restore a backup made by this version");
}

Result<void> check_schema(MDB_txn* txn, const Tables& tables, const std::string& path, bool& present) {
  BytesView value;
  int rc = get_checked(txn, tables, kMetaTable, as_bytes(kSchemaKey), value);
  present = rc == MDB_SUCCESS;
  if (rc == MDB_NOTFOUND) return {};
  if (rc != MDB_SUCCESS) return fail(lmdb_error(rc, "read the schema of", path));
  if (uint64_t schema = decode_u64(value); schema > kSchema) return refuse_newer(path, schema);
  return {};
}

// A sound file of this schema is opened without writing, so that a full disk does not keep a role from starting.
Result<bool> open_existing(MDB_env* env, Tables& tables, const std::string& path) {
  MDB_txn* raw = nullptr;
  int rc = mdb_txn_begin(env, nullptr, MDB_RDONLY, &raw);
  if (rc != MDB_SUCCESS) return fail(lmdb_error(rc, "read", path));
  TxnHandle txn(raw);
  rc = tables.open(raw, false);
  if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND) return fail(lmdb_error(rc, "read", path));
  bool present = false;
  if (tables.has(kMetaTable)) TRY(check_schema(raw, tables, path, present));
  int committed = mdb_txn_commit(txn.release());  // keeps the table handles
  if (committed != MDB_SUCCESS) return fail(lmdb_error(committed, "read", path));
  return rc == MDB_SUCCESS && present;
}

Result<void> create_tables(MDB_env* env, Tables& tables, const std::string& path) {
  MDB_txn* raw = nullptr;
  int rc = mdb_txn_begin(env, nullptr, 0, &raw);
  if (rc != MDB_SUCCESS) return fail(lmdb_error(rc, "write", path));
  TxnHandle txn(raw);
  rc = tables.open(raw, true);
  if (rc == MDB_SUCCESS) rc = put_checked(raw, tables, kMetaTable, as_bytes(kSchemaKey), encode_u64(kSchema));
  if (rc == MDB_SUCCESS) rc = mdb_txn_commit(txn.release());
  if (rc != MDB_SUCCESS) return fail(lmdb_error(rc, "write", path));
  return {};
}

// A new file is made whole under another name, so that nothing half made ever stands under the real one.
Result<void> create_file(const StoreOptions& options) {
  const std::string fresh = options.path + ".new";
  ::unlink(fresh.c_str());
  auto make = [&options, &fresh]() -> Result<void> {
    TRY_ASSIGN(EnvHandle env, open_env(options, fresh, kEnvFlags | MDB_NOLOCK));
    Tables tables;
    return create_tables(env.get(), tables, fresh);
  };
  Result<void> made = make();
  if (made && ::rename(fresh.c_str(), options.path.c_str()) != 0)
    made = fail(lmdb_error(errno, "create", options.path));
  if (!made) ::unlink(fresh.c_str());
  if (made) sync_directory_of(options.path);
  return made;
}

// Is there a sound file? One that is damaged is set aside; then there is none.
Result<bool> check_file(const StoreOptions& options, std::string& damage) {
  const std::string& path = options.path;
  struct stat file{};
  if (::stat(path.c_str(), &file) != 0) {
    if (errno == ENOENT) return false;
    return fail(lmdb_error(errno, "open", path));
  }
  if (!S_ISREG(file.st_mode))
    return fail(Code::failed_precondition, "open " + path + ": not a file: remove it or set another data_dir");
  if (::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK, AT_EACCESS) != 0) return fail(lmdb_error(errno, "open", path));
  if (file.st_size == 0) return false;
  Verdict verdict = check_store(path, options.check_child);
  switch (verdict.kind) {
    case Verdict::Kind::sound:
      return true;
    case Verdict::Kind::newer:
      return refuse_newer(path, verdict.schema);
    case Verdict::Kind::unreadable:
      return fail(Code::unavailable,
                  "read " + path + ": " + verdict.reason + ": check the disk and the file's permissions");
    case Verdict::Kind::damaged:
      break;
  }
  TRY_ASSIGN(damage, set_aside(path, verdict.reason));
  return false;
}

}  // namespace

OwnerLock::~OwnerLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<OwnerLock> OwnerLock::take(const std::string& store_path) {
  const std::string path = store_path + ".owner";
  OwnerLock lock;
  lock.descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock.descriptor_ < 0) return fail(lmdb_error(errno, "open", path));
  char pid[24] = {};
  // a killed process's checking child may hold it for a moment longer
  for (int i = 0; i < kOwnerTries && ::flock(lock.descriptor_, LOCK_EX | LOCK_NB) != 0; ++i) ::usleep(kOwnerWaitUs);
  if (::flock(lock.descriptor_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail(lmdb_error(errno, "lock", path));
    ssize_t got = ::pread(lock.descriptor_, pid, sizeof pid - 1, 0);
    std::string holder = got > 0 ? "process " + std::string(pid, ::strspn(pid, "0123456789")) : "another process";
    return fail(Code::unavailable, "open " + store_path + ": already open in " + holder +
                                       ": stop it, or give this one a data_dir of its own");
  }
  // Only for the message above; a full disk does not matter here.
  int size = std::snprintf(pid, sizeof pid, "%d\n", static_cast<int>(::getpid()));
  if (::ftruncate(lock.descriptor_, 0) == 0) (void)!::pwrite(lock.descriptor_, pid, static_cast<size_t>(size), 0);
  return lock;
}

Result<StoreFile> open_store_file(const StoreOptions& options) {
  StoreFile file;
  file.path = options.path;
  TRY_ASSIGN(file.owner, OwnerLock::take(options.path));
  TRY_ASSIGN(bool present, check_file(options, file.damage));
  TRY(prepare_lock_file(options.path));
  if (!present) TRY(create_file(options));
  TRY_ASSIGN(file.env, open_env(options, options.path, kEnvFlags));
  TRY_ASSIGN(bool ready, open_existing(file.env.get(), file.tables, options.path));
  if (!ready) TRY(create_tables(file.env.get(), file.tables, options.path));
  return file;
}

}  // namespace limpet
