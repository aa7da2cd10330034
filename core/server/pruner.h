// SPDX-License-Identifier: Apache-2.0
#pragma once
// Removes what has expired, every five minutes: registration entries with an expiry, and join tokens nobody used. A
// round goes through both tables a slice a turn of the loop, so that a long table holds up nobody. Owned by Server;
// loop thread only.

#include <string>

#include "base/clock.h"
#include "loop/loop.h"
#include "report/log.h"
#include "report/metrics.h"
#include "store/store.h"

namespace limpet::server {

class Pruner {
 public:
  Pruner(Loop& loop, const Clock& clock, Logger& logger, Store& store, Metrics& metrics = Metrics::none())
      : loop_(loop), clock_(clock), logger_(logger), store_(store), metrics_(metrics), tick_(loop) {}
  void start();

 private:
  void on_tick();
  void on_turn();
  // One slice each: what to remove goes into `changes`. True: the table is over.
  Result<bool> entries_slice(const Snapshot& snapshot, ChangeSet& changes);
  Result<bool> tokens_slice(const Snapshot& snapshot, ChangeSet& changes);
  void on_pruned(Result<uint64_t> revision);
  void end_round();

  Loop& loop_;
  const Clock& clock_;
  Logger& logger_;
  Store& store_;
  Metrics& metrics_;
  Timer tick_;  // the next round, or the next turn of this one
  // the round
  int64_t begun_ms_ = 0;  // loop time
  uint64_t entry_after_ = 0;
  std::string token_after_;
  bool entries_over_ = false;
  bool over_ = false;
  size_t entries_ = 0;  // removed
  size_t tokens_ = 0;
  Pending<uint64_t> pruned_;
};

}  // namespace limpet::server
