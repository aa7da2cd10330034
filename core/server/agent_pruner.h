// SPDX-License-Identifier: Apache-2.0
#pragma once
// Removes agents whose SVID expired long ago, once an hour, when prune_attested_nodes_expired_for says so. Banned
// agents stay, or they could attest again; agents that cannot attest again stay unless prune_tofu_nodes says otherwise.
// Owned by ServerCore; loop thread only.

#include "base/clock.h"
#include "config/config.h"
#include "loop/loop.h"
#include "report/log.h"
#include "store/store.h"

namespace limpet::server {

class AgentPruner {
 public:
  AgentPruner(Loop& loop, const Clock& clock, Logger& logger, Store& store, const ServerConfig& config);
  void start();  // nothing when it is off

 private:
  void on_tick();
  void on_pruned(Result<uint64_t> revision);

  const Clock& clock_;
  Logger& logger_;
  Store& store_;
  const int64_t expired_for_s_;  // 0: off
  const size_t batch_;           // rows in one commit
  const bool tofu_;
  size_t agents_ = 0;
  Timer tick_;
  Pending<uint64_t> pruned_;
};

}  // namespace limpet::server
