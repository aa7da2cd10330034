// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a Store is made of: the file, the queue to the writer thread, the answers on their way back, idle read
// transactions. For store.cc and snapshot.cc only. Each member says which thread may touch it.

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "store/local_committer.h"
#include "store/store_file.h"

namespace limpet {

inline constexpr size_t kGroupSets = 512;  // change sets in one transaction: bounds the latency of the first
inline constexpr size_t kGroupBytes = size_t{8} << 20;  // and the memory of its dirty pages
inline constexpr size_t kWaitingSets = 8192;  // change sets waiting: a disk that hangs must not eat the memory
inline constexpr size_t kWaitingBytes = size_t{64} << 20;

struct Store::Impl {
  // Owned by the store and by the task that is posted to the loop while answers wait there; null once the store is
  // gone.
  struct Link {
    explicit Link(Impl* store) : impl(store) {}
    Impl* impl;
  };

  Impl(Loop& loop_, StoreFile file_, const StoreOptions& options);
  ~Impl();
  void start();
  void commit(ChangeSet changes, Done<uint64_t> done);
  void take_committed();
  static void deliver(const std::shared_ptr<Link>& alive);
  void close();
  void settle();
  std::vector<ChangeSet> take_group();
  void note_disk(const std::vector<Committer::Outcome>& group);
  void write();

  // fixed after open
  Loop& loop;
  StoreFile file;
  std::unique_ptr<Committer> committer;  // used by the writer
  std::shared_ptr<Link> link;

  // loop
  std::vector<MDB_txn*> idle_readers;       // reset read transactions: renewing one costs a tenth of beginning one
  std::vector<StoreObserver*> observers;    // null: unsubscribed while being told
  std::deque<Done<uint64_t>> dones;         // of the change sets not answered yet, oldest first
  std::deque<Committer::Outcome> outcomes;  // answers taken from `committed`, oldest first

  // under mutex
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable idle;
  std::deque<ChangeSet> waiting;
  size_t waiting_bytes = 0;
  std::deque<Committer::Outcome> committed;
  bool posted = false;
  bool writing = false;
  bool closing = false;

  std::atomic<bool> read_only = false;
  std::thread writer;
};

struct Snapshot::Impl {
  const StoreFile& file;
  std::vector<MDB_txn*>& idle_readers;  // where the transaction goes afterwards
  MDB_txn* txn;                         // null: none could be had; `failure` says why
  Error failure;
};

}  // namespace limpet
