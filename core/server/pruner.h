// SPDX-License-Identifier: Apache-2.0
#pragma once
// Removes what has expired, every five minutes: registration entries with an expiry, and join tokens nobody used. Owned
// by Server; loop thread only.

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
  void on_pruned(Result<uint64_t> revision);

  Loop& loop_;
  const Clock& clock_;
  Logger& logger_;
  Store& store_;
  Metrics& metrics_;
  int64_t begun_ms_ = 0;  // loop time
  Timer tick_;
  size_t entries_ = 0;
  size_t tokens_ = 0;
  Pending<uint64_t> pruned_;
};

}  // namespace limpet::server
