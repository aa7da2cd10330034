// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent's memory on disk: what it can serve, its own SVID, its bundles, and the last time it trusted. Reads all of
// it at start; afterwards writes what changed, one change set at a time. When the disk fails, serving goes on from
// memory, health says so, and what could not be written is written again with the next change. Owned by the Agent; loop
// thread only.

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/agent_keeper.h"
#include "agent/identity_cache.h"
#include "report/health.h"
#include "report/log.h"
#include "store/store.h"

namespace limpet::agent {

struct KeptState {
  std::optional<AgentSvid> svid;
  std::optional<Bundle> bundle;
  int64_t time = 0;               // Unix seconds, the last known good time
  bool synced = false;            // entries were stored by a sync that succeeded
  std::vector<std::string> lost;  // what could not be read, for the log
};

class StateWriter final : public IdentitySaver {
 public:
  StateWriter(Store& store, Logger& log, Health& health, IdentityCache& cache, TrustDomain trust_domain);
  // Fills the cache, but for the SVIDs.
  KeptState load();
  // With the key (agent/cache_key.h) come the SVIDs. Until then none is written. Returns what could not be read; it
  // will be signed again.
  std::vector<std::string> unlock(SecretBytes seal_key);

  void save_identity(const AgentSvid& svid, const Bundle& bundle, Done<void> done) override;
  // The cache changed for these entry ids (put, removed, new SVID).
  void save_entries(std::set<std::string> ids);
  void save_svids(const std::vector<std::string>& ids);
  void save_bundles();
  void save_time(int64_t unix_seconds);
  void save_synced();
  // No change set is under way: all that can be stored is on disk, unless the last one failed.
  [[nodiscard]] bool settled() const { return !written_.armed() && !identity_written_.armed(); }
  // Tells it once that is so. Ask settled() first: where it is so already, nobody is told.
  void tell_settled(Done<void> done) { settled_ = std::move(done); }

 private:
  void load_entries(const Snapshot& snapshot, KeptState& kept);
  void load_bundles(const Snapshot& snapshot, KeptState& kept);
  void write();
  void on_written(Result<uint64_t> revision);
  void on_identity_written(Result<uint64_t> revision);
  void on_settled();
  void put_svid(ChangeSet& changes, const std::string& id, const Identity* identity) const;
  void put_bundles(ChangeSet& changes) const;
  void tell_health(const Error* trouble);

  Store& store_;
  Logger& log_;
  Health& health_;
  IdentityCache& cache_;
  TrustDomain trust_domain_;
  SecretBytes seal_key_;           // empty: not to be had yet
  std::set<std::string> entries_;  // ids to write
  std::set<std::string> svids_;
  bool bundles_ = false;
  bool synced_ = false;
  int64_t time_ = 0;
  std::set<std::string> writing_entries_;  // in the change set in flight
  std::set<std::string> writing_svids_;
  bool broken_ = false;
  Done<void> identity_done_;
  Done<void> settled_;
  Pending<uint64_t> written_;
  Pending<uint64_t> identity_written_;
};

}  // namespace limpet::agent
