// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keeps the agent's view of the server current: every sync_interval the entries, the own bundle and one bundle per
// federated trust domain; after a failure with a growing pause, for ever. What the server did not name is dropped only
// when the whole sync succeeded. Owned by the Agent; loop thread only.

#include <memory>
#include <optional>
#include <vector>

#include "agent/entry_sync.h"
#include "loop/backoff.h"
#include "proto/spire_agent.pb.h"
#include "proto/spire_bundle.pb.h"
#include "report/log.h"
#include "report/metrics.h"

namespace limpet::agent {

struct SyncOutcome {
  EntriesUpdate entries;
  Bundle bundle;
  std::vector<Bundle> federated;           // found
  std::vector<std::string> not_federated;  // asked for, and the server has none
  std::vector<std::string> unreadable;     // asked for, and what came is no bundle of it: the known one stays
};

class SyncerClient {
 public:
  virtual ~SyncerClient() = default;
  virtual void on_synced(SyncOutcome outcome) = 0;
  virtual void on_sync_failed(const Error& why) = 0;
};

class Syncer {
 public:
  Syncer(Loop& loop, Logger& log, Link& link, const IdentityCache& cache, TrustDomain trust_domain, int64_t interval_ms,
         SyncerClient& client, Metrics& metrics = Metrics::none());
  // There is a connection, or a new identity: syncs now, and tells the server our version once more.
  void now();
  void set_interval(int64_t interval_ms);            // from the next one on
  [[nodiscard]] bool ever() const { return ever_; }  // synced since the start

 private:
  using Status =
      wire::UnaryCall<spire_api_server_agent_v1_PostStatusRequest, spire_api_server_agent_v1_PostStatusResponse>;
  using GetBundle = wire::UnaryCall<spire_api_server_bundle_v1_GetBundleRequest, spire_api_types_Bundle>;
  using GetFederated = wire::UnaryCall<spire_api_server_bundle_v1_GetFederatedBundleRequest, spire_api_types_Bundle>;

  void on_timer();
  void on_channel(Result<SharedChannel> channel);
  void post_status();
  void on_status(Result<wire::Message<spire_api_server_agent_v1_PostStatusResponse>>) {}  // of no consequence
  void on_entries(Result<EntriesUpdate> update);
  void on_bundle(Result<wire::Message<spire_api_types_Bundle>> bundle);
  void next_federated();
  void on_federated(Result<wire::Message<spire_api_types_Bundle>> bundle);
  void list_federated();
  void failed(const Error& why);
  void succeeded();
  void stop_calls();
  void count_entries(Code status);

  Loop& loop_;
  Logger& log_;
  Link& link_;
  const IdentityCache& cache_;
  TrustDomain trust_domain_;
  int64_t interval_ms_;
  SyncerClient& client_;
  Metrics& metrics_;
  int64_t asked_ms_ = 0;  // loop time
  Backoff backoff_;
  bool running_ = false;
  bool again_ = false;  // asked for while one was running
  bool use_sync_ = true;
  bool post_status_ = true;
  bool failing_ = false;  // said so in the log
  bool ever_ = false;
  SharedChannel channel_;
  std::optional<EntriesUpdate> entries_;
  std::optional<Bundle> bundle_;
  std::vector<std::string> federated_names_;
  SyncOutcome outcome_;
  std::unique_ptr<EntrySync> entry_sync_;
  std::unique_ptr<Status> status_call_;
  std::unique_ptr<GetBundle> bundle_call_;
  std::unique_ptr<GetFederated> federated_call_;
  Pending<SharedChannel> acquired_;
  Pending<EntriesUpdate> synced_;
  Pending<wire::Message<spire_api_server_agent_v1_PostStatusResponse>> posted_;
  Pending<wire::Message<spire_api_types_Bundle>> got_bundle_;
  Pending<wire::Message<spire_api_types_Bundle>> got_federated_;
  Timer timer_;
};

}  // namespace limpet::agent
