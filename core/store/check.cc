// SPDX-License-Identifier: Apache-2.0
#include "store/check.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "store/lmdb.h"
#include "store/page_walk.h"

namespace limpet {

namespace {

constexpr rlim_t kCpuSeconds = 60;               // a loop among damaged pages ends here
constexpr int64_t kBytesPerMs = 2000;            // a slow card reads more than 2 MB a second
constexpr rlim_t kBytesPerCpuSecond = 16 << 20;  // and a large sound file does not: it is read at ten times this rate

Verdict damaged(std::string reason) { return {Verdict::Kind::damaged, 0, std::move(reason)}; }

// Keys in order and checksums right, as LMDB's own cursor sees them.
Verdict walk_table(MDB_txn* txn, const Tables& tables, TableId table) {
  MDB_cursor* raw = nullptr;
  MDB_stat stat{};
  if (int rc = mdb_stat(txn, tables[table], &stat); rc != MDB_SUCCESS) return damaged(mdb_strerror(rc));
  if (int rc = mdb_cursor_open(txn, tables[table], &raw); rc != MDB_SUCCESS) return damaged(mdb_strerror(rc));
  CursorHandle cursor(raw);
  size_t seen = 0;
  MDB_val key{}, value{};
  int rc = mdb_cursor_get(raw, &key, &value, MDB_FIRST);
  for (; rc == MDB_SUCCESS; rc = mdb_cursor_get(raw, &key, &value, MDB_NEXT)) {
    if (++seen > stat.ms_entries)
      return damaged("table " + std::string(table_name(table)) + ": more rows than counted");
    if (!checksum_holds(static_cast<uint8_t>(table), to_view(key), to_view(value))) {
      return damaged("wrong checksum at " + key_text(table, to_view(key)));
    }
  }
  if (rc != MDB_NOTFOUND) return damaged("table " + std::string(table_name(table)) + ": " + mdb_strerror(rc));
  if (seen != stat.ms_entries) return damaged("table " + std::string(table_name(table)) + ": rows are missing");
  return {};
}

Verdict walk_tables(const std::string& path) {
  MDB_env* raw_env = nullptr;
  if (mdb_env_create(&raw_env) != MDB_SUCCESS) return {Verdict::Kind::unreadable, 0, "out of memory"};
  EnvHandle env(raw_env);
  mdb_env_set_maxdbs(raw_env, kMaxTables);
  // no lock file: the owner lock says that nobody writes
  int rc = mdb_env_open(raw_env, path.c_str(), MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK, 0);
  if (rc != MDB_SUCCESS) return damaged(mdb_strerror(rc));
  MDB_txn* raw = nullptr;
  rc = mdb_txn_begin(raw_env, nullptr, MDB_RDONLY, &raw);
  if (rc != MDB_SUCCESS) return damaged(mdb_strerror(rc));
  TxnHandle txn(raw);
  Tables tables;
  rc = tables.open(raw, false);
  if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND) return damaged(mdb_strerror(rc));
  for (TableId table : kTables) {
    if (!tables.has(table)) continue;
    if (Verdict verdict = walk_table(raw, tables, table); verdict.kind != Verdict::Kind::sound) return verdict;
  }
  return {};
}

// What a child can say through its pipe.
struct Report {
  Verdict::Kind kind;
  uint64_t schema;
  char reason[200];
};

[[noreturn]] void be_child(const std::string& path, int out) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_DUMPABLE, 0);
  for (int sig : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGXCPU, SIGTERM}) (void)::signal(sig, SIG_DFL);
  struct stat file{};
  (void)::stat(path.c_str(), &file);
  const rlim_t seconds = kCpuSeconds + static_cast<rlim_t>(file.st_size) / kBytesPerCpuSecond;
  struct rlimit cpu{seconds, seconds};
  (void)::setrlimit(RLIMIT_CPU, &cpu);
  if (int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC); null >= 0) (void)::dup2(null, 2);  // LMDB's assertions
  Verdict verdict = walk_pages(path);
  if (verdict.kind == Verdict::Kind::sound) verdict = walk_tables(path);
  Report report{};
  report.kind = verdict.kind;
  report.schema = verdict.schema;
  std::strncpy(report.reason, verdict.reason.c_str(), sizeof report.reason - 1);
  bool written = ::write(out, &report, sizeof report) == static_cast<ssize_t>(sizeof report);
  ::_exit(written ? 0 : 1);
}

// False when the child ended without a word, or took so long that it must be stuck.
bool read_report(int in, int patience_ms, Report& report) {
  size_t have = 0;
  while (have < sizeof report) {
    pollfd wait{in, POLLIN, 0};
    int ready = ::poll(&wait, 1, patience_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    ssize_t got = ::read(in, reinterpret_cast<char*>(&report) + have, sizeof report - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    have += static_cast<size_t>(got);
  }
  report.reason[sizeof report.reason - 1] = '\0';
  return true;
}

}  // namespace

namespace {
// A fork of a process with threads may get stuck on a lock that one of them held.
int patience_ms(const std::string& path) {
  struct stat file{};
  (void)::stat(path.c_str(), &file);
  return 60'000 + static_cast<int>(std::min<int64_t>(file.st_size / kBytesPerMs, 3'600'000));
}
}  // namespace

Verdict check_store(const std::string& path, bool in_child) {
  int ends[2];
  if (!in_child || ::pipe2(ends, O_CLOEXEC) != 0) return walk_pages(path);
  pid_t child = ::fork();
  if (child == 0) be_child(path, ends[1]);
  ::close(ends[1]);
  if (child < 0) {
    ::close(ends[0]);
    return walk_pages(path);
  }
  Report report{};
  bool said = read_report(ends[0], patience_ms(path), report);
  if (!said) ::kill(child, SIGKILL);  // one that died keeps its own signal
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (said) return {report.kind, report.schema, report.reason};
  if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGTERM) {
    return damaged("reading it ended with signal " + std::to_string(WTERMSIG(status)));
  }
  // killed from outside, for lack of memory for one, or stuck: that says nothing about the file
  return walk_pages(path);
}

}  // namespace limpet
