// SPDX-License-Identifier: Apache-2.0
#include "server/agent_pruner.h"

#include <algorithm>

#include "store/agents.h"

namespace limpet::server {
namespace {
constexpr int64_t kTickMs = 3'600'000;
constexpr int64_t kSoonMs = 100;
}  // namespace

AgentPruner::AgentPruner(Loop& loop, const Clock& clock, Logger& logger, Store& store, const ServerConfig& config,
                         Metrics& metrics)
    : loop_(loop), clock_(clock), logger_(logger), store_(store), metrics_(metrics), config_(config), tick_(loop) {}

void AgentPruner::start() { tick_.start<&AgentPruner::on_tick>(kTickMs, this); }

void AgentPruner::on_tick() {
  tick_.start<&AgentPruner::on_tick>(kTickMs, this);
  if (pruned_.armed() || config_.prune_attested_nodes_expired_for_s == 0) return;
  agents_ = 0;
  begun_ms_ = loop_.now_ms();
  ChangeSet changes;
  {
    Snapshot snapshot = store_.read();
    const int64_t before = clock_.now() - config_.prune_attested_nodes_expired_for_s;
    const auto batch = static_cast<size_t>(config_.prune_attested_nodes_batch_size);
    const auto scanned = scan_agents(snapshot, 0, [&](AgentRow&& row) {
      // a renewed SVID that was not used yet is valid too
      const int64_t expires = std::max(row.agent.not_after, row.agent.new_not_after);
      if (expires >= before || row.agent.banned() || (!row.agent.can_reattest && !config_.prune_tofu_nodes))
        return true;
      AgentTable::remove(changes, row);
      return ++agents_ < batch;
    });
    if (!scanned) logger_.warn("Expired agents not all found", {{"error", scanned.error().text()}});
  }
  if (!changes.empty()) store_.commit(std::move(changes), pruned_.then<&AgentPruner::on_pruned>(this));
}

void AgentPruner::on_pruned(Result<uint64_t> revision) {
  metrics_.call("node_manager_prune", revision ? Code::ok : revision.error().code, loop_.now_ms() - begun_ms_);
  if (!revision) {
    // an agent that attested meanwhile: the next round looks again
    return logger_.warn("Expired agents not removed", {{"error", revision.error().text()}});
  }
  logger_.info("Pruned expired agents", {{"agents", std::to_string(agents_)}});
  if (agents_ >= static_cast<size_t>(config_.prune_attested_nodes_batch_size))
    tick_.start<&AgentPruner::on_tick>(kSoonMs, this);
}

}  // namespace limpet::server
