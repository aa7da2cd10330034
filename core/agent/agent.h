// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent role. This folder holds one class per conversation: attest, renew, sync, sign, and the Workload API's
// streams. Agent owns them, wires them together and passes on what each has to say. It serves from the store at once
// and does everything else beside that; nothing that the network does ends it. Owned by main; loop thread only.
//
// Glossary. Keeper: keeps the agent's own SVID. Renewer: keeps the workloads'. Syncer: keeps entries and bundles.
// Audience: all workloads with the same selectors.

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "config/config.h"
#include "loop/uv_loop.h"
#include "plugin/attestor.h"
#include "plugin/key_manager.h"
#include "plugin/sealer.h"
#include "report/health.h"
#include "report/log.h"
#include "report/metrics.h"
#include "store/store.h"

namespace limpet::agent {

// All of it outlives the Agent.
struct AgentParts {
  UvLoop& loop;
  const Clock& clock;
  Logger& log;
  Health& health;
  Store& store;
  KeyManager& keys;
  NodeAttestorAgent& attestor;
  std::vector<WorkloadAttestor*> workload_attestors;
  Metrics& metrics = Metrics::none();
  Sealer* sealer = nullptr;  // nullptr: the cache's key is in a file
};

class Agent {
 public:
  Agent(AgentParts parts, AgentConfig config);
  ~Agent();  // ends every connection at once
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Opens the Workload API on what the store holds, then begins to attest or to sync. Fails only for what an operator
  // must mend: a configuration value, an unreadable bundle file, a socket that cannot be opened, a store of another
  // trust domain.
  Result<void> start();
  // Takes over what may change while it runs.
  void reload(const AgentConfig& next);
  // Lets calls in flight end, for at most `grace_ms`.
  void stop(int64_t grace_ms, Done<void> done);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace limpet::agent
