// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keeps the bundle of one federated trust domain current: asks its endpoint, judges the document, stores it, and asks
// again (SPIFFE Federation, section 5; wire notes 13). Whatever goes wrong, the bundle that is there stays; health and
// the log say that it is stale. Owned by BundlePoller; loop thread only.
//
// When: a quarter of the refresh hint (of at least a minute), five minutes without a hint, a minute while there is no
// bundle. After failures up to four times as long, so that one attempt remains within each refresh hint. Each wait is
// longer by a fixed share, up to a tenth, that follows from the two trust domains: servers that start together do not
// ask together.

#include <string>
#include <vector>

#include "report/health.h"
#include "report/log.h"
#include "report/metrics.h"
#include "server/bundle_cache.h"
#include "server/bundle_fetcher.h"
#include "store/store.h"

namespace limpet::server {

struct BundlePollParts {
  Loop& loop;
  Logger& logger;
  Health& health;
  Store& store;
  const BundleCache& bundles;
  BundleFetcher* fetcher;  // null: nothing is polled
  Metrics& metrics = Metrics::none();
};

// Seconds until the next question while all is well; null: there is no bundle yet.
int64_t poll_interval_s(const Bundle* stored);
// May `fetched` take the place of `stored` (null: none)? INVALID_ARGUMENT or FAILED_PRECONDITION with the reason.
Result<void> check_fetched(const FederationRelationship& relationship, const Bundle& fetched, const Bundle* stored);

class BundlePoll {
 public:
  BundlePoll(const BundlePollParts& parts, FederationRelationship relationship);
  ~BundlePoll();
  BundlePoll(const BundlePoll&) = delete;
  BundlePoll& operator=(const BundlePoll&) = delete;

  [[nodiscard]] const FederationRelationship& relationship() const { return relationship_; }
  void start();
  // Asks now; `done` is told how it went.
  void refresh(Done<void> done);
  // A bundle that this poll may depend on was changed by somebody else.
  void on_bundle_changed(const TrustDomain& trust_domain);

 private:
  void poll();
  void on_fetched(Result<FetchedBundle> fetched);
  void store();
  void on_stored(Result<uint64_t> revision);
  void succeeded();
  void failed(const Error& why);
  void end(Result<void> result);
  [[nodiscard]] std::optional<Bundle> stored_bundle() const;
  [[nodiscard]] int64_t pause_ms() const;

  const BundlePollParts& parts_;
  FederationRelationship relationship_;
  std::string name_;      // of the trust domain
  std::string part_;      // in health
  uint64_t phase_ = 0;    // 0..999
  int failures_ = 0;      // in a row
  int attempts_ = 0;      // to store what was fetched
  int64_t asked_ms_ = 0;  // loop time
  bool running_ = false;
  Bundle fetched_bundle_;
  std::string fetched_etag_;
  std::string etag_;  // of the document that is stored
  Bytes etag_of_;     // what is stored, if it is the document that the tag belongs to
  std::vector<Done<void>> waiting_;
  Timer timer_;
  Pending<FetchedBundle> fetched_;
  Pending<uint64_t> stored_;
};

}  // namespace limpet::server
