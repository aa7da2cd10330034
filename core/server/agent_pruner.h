// SPDX-License-Identifier: Apache-2.0
#pragma once
// Removes agents whose SVID expired long ago, once an hour, when prune_attested_nodes_expired_for says so. Banned
// agents stay, or they could attest again; agents that cannot attest again stay unless prune_tofu_nodes says otherwise.
// Owned by ServerCore; loop thread only.

#include "base/clock.h"
#include "config/config.h"
#include "loop/loop.h"
#include "report/log.h"
#include "report/metrics.h"
#include "store/store.h"

namespace limpet::server {

class AgentPruner {
 public:
  AgentPruner(Loop& loop, const Clock& clock, Logger& logger, Store& store, const ServerConfig& config,
              Metrics& metrics = Metrics::none());
  void start();

 private:
  void on_tick();
  void on_pruned(Result<uint64_t> revision);

  Loop& loop_;
  const Clock& clock_;
  Logger& logger_;
  Store& store_;
  Metrics& metrics_;
  int64_t begun_ms_ = 0;        // loop time
  const ServerConfig& config_;  // may change while we run
  size_t agents_ = 0;
  Timer tick_;
  Pending<uint64_t> pruned_;
};

}  // namespace limpet::server
