// SPDX-License-Identifier: Apache-2.0
#pragma once
// Renews workload SVIDs by a schedule of its own, apart from sync: each at half its life with the phase of its entry
// id, what somebody waits for first, then by expiry, with what falls due soon taken along in the same call. SVIDs
// under an authority that was tainted are replaced at once, a hundred every five seconds. While the
// server is away it tries again for ever; the old SVIDs stay. Owned by the Agent; loop thread only.

#include <memory>
#include <vector>

#include "agent/sign_batch.h"
#include "base/clock.h"
#include "loop/backoff.h"
#include "report/log.h"
#include "report/metrics.h"

namespace limpet::agent {

class SvidRenewerClient {
 public:
  virtual ~SvidRenewerClient() = default;
  // These entries have new SVIDs, or lost theirs to the cache's limit: store that, and tell workloads.
  virtual void on_svids(const std::vector<std::string>& entry_ids) = 0;
  virtual void on_sign_refused(const Error& why) = 0;
};

class SvidRenewer {
 public:
  SvidRenewer(Loop& loop, const Clock& clock, Logger& log, Link& link, IdentityCache& cache, KeyType key_type,
              size_t cache_limit, SvidRenewerClient& client, Metrics& metrics = Metrics::none());
  // Something changed: an entry came, a workload waits, the link is up. Looks at the schedule at the next turn of the
  // loop.
  void poke();
  // As poke(), and forgets the pause after a failure.
  void kick();
  // Until it is released it asks for nothing: what is wanted may still come from the disk.
  void hold() { held_ = true; }
  void release();

 private:
  struct Due {
    Identity* identity;
    int urgency;  // 0: somebody waits; 1: none yet; 2: has one
    int64_t at;   // Unix milliseconds
  };
  void look();
  void on_signed(Result<std::vector<SignedItem>> signed_items);
  void on_batch_failed(const Error& why);
  void refuse(Identity& identity, const Error& why);
  [[nodiscard]] std::vector<Due> due_list();
  [[nodiscard]] int64_t due_at(const Identity& identity, size_t& room) const;
  std::vector<std::string> enforce_limit();
  void plan(int64_t next_ms);

  Loop& loop_;
  const Clock& clock_;
  Logger& log_;
  Link& link_;
  IdentityCache& cache_;
  KeyType key_type_;
  size_t cache_limit_;
  SvidRenewerClient& client_;
  Metrics& metrics_;
  int64_t asked_ms_ = 0;  // loop time
  size_t batch_limit_;
  size_t batch_size_ = 0;
  int64_t tainted_at_ = 0;  // Unix milliseconds: when the next ones under a tainted authority may be replaced
  bool pausing_ = false;
  bool held_ = false;
  bool failing_ = false;  // said so in the log
  Backoff backoff_{1'000, 60'000};
  std::unique_ptr<SignBatch> batch_;
  Pending<std::vector<SignedItem>> signed_;
  Timer timer_;
};

}  // namespace limpet::agent
