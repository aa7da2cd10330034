// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keeps what the upstream authority's bundle holds in the own bundle too: watches it for as long as the server lives,
// opens the watch anew 5 s after it ended, and says in health ("upstream") when it cannot. What the upstream merely
// dropped stays until it has expired. What it tainted is tainted here too, and a tainted root that it dropped is
// revoked here; before that, a CA that hangs under such a root is replaced by one that does not, so that everything
// below it can be signed anew; "upstream" says so for as long as that is not possible. Owned by ServerCore; loop
// thread.

#include <functional>
#include <memory>

#include "plugin/upstream_authority.h"
#include "report/health.h"
#include "report/log.h"
#include "server/bundle_cache.h"
#include "server/ca.h"

namespace limpet::server {

class UpstreamFollower final : public UpstreamWatcher {
 public:
  // `upstream` null: there is none and nothing happens. `moved` is called with the ID of the authority that was left
  // for hanging under a tainted root.
  using Moved = std::function<void(const std::string& authority_id)>;
  UpstreamFollower(Loop& loop, Logger& logger, Health& health, BundleCache& bundles, X509Ca& ca,
                   UpstreamAuthority* upstream, Moved moved = {});
  void start();

  void on_upstream_bundle(UpstreamBundle bundle) override;
  void on_upstream_watch_end(Result<void> why) override;

 private:
  void watch();
  void take_waiting();
  void on_merged(Result<Bundle> merged);
  [[nodiscard]] static bool under_tainted(const CaSlot* slot, const UpstreamBundle& news);
  void leave_tainted_root();
  void on_new_ca(Result<void> prepared);
  void report_stuck(std::string why);
  void report();

  Logger& logger_;
  Health& health_;
  BundleCache& bundles_;
  X509Ca& ca_;
  UpstreamAuthority* upstream_;
  Moved moved_;
  std::string trouble_;                    // why the watch ended, as it was last said; empty: as it should
  std::string stuck_;                      // why the CA hangs under a tainted root; empty: it does not
  bool full_ = false;                      // the same for a bundle without room
  std::optional<UpstreamBundle> waiting_;  // came while another one was being written
  std::optional<UpstreamBundle> held_;     // its tainted root carries the active CA: taken over once that is replaced
  Timer again_;
  Timer leave_again_;
  Pending<Bundle> merged_;
  Pending<void> new_ca_;
  std::unique_ptr<UpstreamWatch> watch_;
};

// Adds what `bundle` lacks and has room for; a JWT key that the upstream tainted is tainted here too. With `taints`, so
// are the roots that it tainted, and tainted roots that it has no more are taken out. True: something changed.
bool merge_upstream(Bundle& bundle, const UpstreamBundle& upstream, bool taints = true);

}  // namespace limpet::server
