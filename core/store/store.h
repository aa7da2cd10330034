// SPDX-License-Identifier: Apache-2.0
#pragma once
// The ordered store on LMDB: named tables of bytes to bytes, one change log, one writer thread, lock-free snapshot
// reads.
//
// Glossary. Table: an ordered map. Change set: puts and deletes with preconditions, applied whole or not at all.
// Revision: a commit's number, gap-free from 1. Change log: revision -> which keys of which tables changed.
// Committer: the seam behind which a change set becomes durable (the local LMDB transaction by default).
//
// Reads happen on the loop against a snapshot and never block; no snapshot survives a return to the loop. commit() may
// be called on the loop; its Done fires after the data is on disk. Whoever caches store content subscribes to the log.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "loop/loop.h"

namespace limpet {

// Tables have fixed numbers; they stand in the change log and never change meaning. 0-15 are the store's own.
enum class TableId : uint8_t {
  entries = 16,        // row number (u64 big-endian) -> StoredEntry
  entry_ids = 17,      // entry id -> row number
  entry_keys = 18,     // path, digest of SPIFFE ID, parent ID and selectors -> row number: finds a similar entry
  agents = 19,         // row number -> StoredAgent
  agent_ids = 20,      // SPIFFE ID -> row number
  join_tokens = 21,    // token -> StoredJoinToken
  bundles = 22,        // trust domain name -> StoredBundle
  ca_journal = 23,     // "journal" -> StoredJournal
  counters = 24,       // name -> u64 big-endian: next row numbers
  federation = 25,     // trust domain name -> StoredFederation
  enrollments = 26,    // node attestor, slash, identifier -> StoredEnrollment
  plugin_state = 27,   // of both roles: component, slash, key -> what the plugin likes
  agent_state = 32,    // the agent's own state: "svid", "bundle", "time", ...
  agent_entries = 33,  // entry id -> entry as the server sent it
  agent_svids = 34,    // entry id -> sealed SVID and key
};

struct Change {
  TableId table;
  Bytes key;
  bool deleted = false;
};

// What must be true of a key for a change set to be applied.
struct Precondition {
  enum class Kind : uint8_t { absent, present, equals };
  TableId table;
  Bytes key;
  Kind kind;
  Bytes value;  // for equals
};

class ChangeSet {
 public:
  void put(TableId table, BytesView key, BytesView value);
  void remove(TableId table, BytesView key);  // of an absent key: nothing happens
  void require_absent(TableId table, BytesView key);
  void require_present(TableId table, BytesView key);
  void require_equal(TableId table, BytesView key, BytesView value);
  [[nodiscard]] bool empty() const { return operations_.empty(); }
  [[nodiscard]] size_t bytes() const { return bytes_; }  // keys and values in all

  struct Operation {
    TableId table;
    bool deleted;
    Bytes key;
    Bytes value;
  };
  [[nodiscard]] const std::vector<Operation>& operations() const { return operations_; }
  [[nodiscard]] const std::vector<Precondition>& preconditions() const { return preconditions_; }

 private:
  std::vector<Operation> operations_;
  std::vector<Precondition> preconditions_;
  size_t bytes_ = 0;
};

// A snapshot. Views it returns die with it. Destroy it before returning to the loop.
class Snapshot {
 public:
  Snapshot(Snapshot&&) noexcept;
  Snapshot& operator=(Snapshot&&) = delete;
  ~Snapshot();
  [[nodiscard]] uint64_t revision() const;
  // NOT_FOUND when absent; DATA_LOSS when the value's checksum is wrong.
  [[nodiscard]] Result<BytesView> get(TableId table, BytesView key) const;
  // Calls visit(key, value) in key order from the first key >= `from`, until it returns false or the table ends.
  Result<void> scan(TableId table, BytesView from, const std::function<bool(BytesView, BytesView)>& visit) const;
  [[nodiscard]] uint64_t count(TableId table) const;
  [[nodiscard]] Bytes last_key(TableId table) const;  // empty: the table is empty
  // The log after `after`, oldest first. FAILED_PRECONDITION when it was pruned that far: then read everything anew.
  Result<void> changes(uint64_t after,
                       const std::function<bool(uint64_t revision, const std::vector<Change>&)>& visit) const;

 private:
  friend class Store;
  struct Impl;
  explicit Snapshot(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class Committer;

struct StoreOptions {
  std::string path = {};        // the data file, "<data_dir>/state.mdb"; "<path>-lock" and "<path>.owner" beside it
  uint64_t map_bytes = 0;       // 0: 16 GiB on 64-bit (address space only), 1 GiB on 32-bit
  uint64_t log_keep = 100'000;  // revisions kept in the change log
  bool check_child = true;      // walk all tables in a throw-away child first
  // Puts another committer before the local one, which it owns and commits through; empty: the local one alone.
  std::function<std::unique_ptr<Committer>(std::unique_ptr<Committer> local)> wrap_committer = {};
};

class StoreObserver {
 public:
  virtual ~StoreObserver() = default;
  // On the loop, after each durable commit, in revision order, before the commit's Done.
  virtual void on_commit(uint64_t revision, const std::vector<Change>& changes) = 0;
};

// The commit seam: makes change sets durable in the order given, one outcome each. Runs on the store's writer thread.
class Committer {
 public:
  struct Outcome {
    Result<uint64_t> revision = 0;  // ABORTED "precondition failed" names the table; RESOURCE_EXHAUSTED: disk full
    std::vector<Change> changes;
  };
  virtual ~Committer() = default;
  virtual std::vector<Outcome> commit(std::vector<ChangeSet>& group) = 0;
};

class Store {
 public:
  // Opens or creates. FAILED_PRECONDITION: written by a newer version (nothing is touched). UNAVAILABLE: path and
  // reason. A damaged file is set aside as "<path>.damaged-<unix time>" and a new one begun; damage() then says what
  // was lost. Blocks: call it before the loop runs, and before threads are started (the check forks).
  static Result<std::unique_ptr<Store>> open(Loop& loop, StoreOptions options);
  ~Store();  // waits for the writer thread; change sets not yet committed get CANCELLED
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  [[nodiscard]] Snapshot read() const;
  // The revision, once durable. ABORTED: a precondition did not hold, nothing was written: read again and retry.
  // RESOURCE_EXHAUSTED (disk or map full, too many change sets waiting) and UNAVAILABLE (read-only): nothing was
  // written, reads go on. INVALID_ARGUMENT: a key that is empty or longer than 511 bytes.
  void commit(ChangeSet changes, Done<uint64_t> done);
  void subscribe(StoreObserver& observer);
  void unsubscribe(StoreObserver& observer);
  [[nodiscard]] const std::string& damage() const;  // empty: the file was sound
  // True while the last commit failed for lack of space or a read-only disk; for health.
  [[nodiscard]] bool read_only() const;
  // Blocks until every change set handed in so far was tried and its answer posted to the loop. For tests and shutdown.
  void settle();

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace limpet
