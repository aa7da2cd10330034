// SPDX-License-Identifier: Apache-2.0
#pragma once
// The bundle client: one BundlePoll for each federation relationship. Those of the configuration are fixed and take
// precedence; those of the store are followed through its change log. Owned by ServerCore; loop thread only.

#include <map>
#include <memory>
#include <vector>

#include "server/bundle_poll.h"
#include "server/bundle_refresher.h"

namespace limpet::server {

class BundlePoller final : public BundleRefresher, public StoreObserver {
 public:
  BundlePoller(const BundlePollParts& parts, std::vector<FederationRelationship> fixed);
  ~BundlePoller() override;
  BundlePoller(const BundlePoller&) = delete;
  BundlePoller& operator=(const BundlePoller&) = delete;

  void start();
  // The configuration has others now.
  void set_fixed(std::vector<FederationRelationship> fixed);
  bool refresh(const TrustDomain& trust_domain, Done<void>& done) override;
  [[nodiscard]] size_t relationships() const { return polls_.size(); }
  void on_commit(uint64_t revision, const std::vector<Change>& changes) override;

 private:
  void follow();

  BundlePollParts parts_;
  std::map<TrustDomain, FederationRelationship> fixed_;
  std::map<TrustDomain, std::unique_ptr<BundlePoll>> polls_;
  bool started_ = false;
};

}  // namespace limpet::server
