// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keeps what the upstream authority's bundle holds in the own bundle too: watches it for as long as the server lives,
// opens the watch anew 5 s after it ended, and says in health ("upstream") when it cannot. Nothing is taken out of the
// own bundle: what the upstream dropped leaves when it has expired or is revoked. Owned by ServerCore; loop thread.

#include <memory>

#include "plugin/upstream_authority.h"
#include "report/health.h"
#include "report/log.h"
#include "server/bundle_cache.h"

namespace limpet::server {

class UpstreamFollower final : public UpstreamWatcher {
 public:
  // `upstream` null: there is none and nothing happens.
  UpstreamFollower(Loop& loop, Logger& logger, Health& health, BundleCache& bundles, UpstreamAuthority* upstream);
  void start();

  void on_upstream_bundle(UpstreamBundle bundle) override;
  void on_upstream_watch_end(Result<void> why) override;

 private:
  void watch();
  void take_waiting();
  void on_merged(Result<Bundle> merged);

  Logger& logger_;
  Health& health_;
  BundleCache& bundles_;
  UpstreamAuthority* upstream_;
  std::string trouble_;                    // the last failure said, so that it is said once
  std::optional<UpstreamBundle> waiting_;  // came while another one was being written
  Timer again_;
  Pending<Bundle> merged_;
  std::unique_ptr<UpstreamWatch> watch_;
};

// Adds what `bundle` lacks; a JWT key that the upstream tainted is tainted here too. True: something changed.
bool merge_upstream(Bundle& bundle, const UpstreamBundle& upstream);

}  // namespace limpet::server
