// SPDX-License-Identifier: Apache-2.0
#include "server/bundle_poller.h"

#include <set>

namespace limpet::server {

BundlePoller::BundlePoller(const BundlePollParts& parts, std::vector<FederationRelationship> fixed) : parts_(parts) {
  set_fixed(std::move(fixed));
  parts_.store.subscribe(*this);
}

BundlePoller::~BundlePoller() { parts_.store.unsubscribe(*this); }

void BundlePoller::set_fixed(std::vector<FederationRelationship> fixed) {
  fixed_.clear();
  for (FederationRelationship& relationship : fixed) {
    TrustDomain trust_domain = relationship.trust_domain;
    fixed_.emplace(std::move(trust_domain), std::move(relationship));
  }
  if (started_) follow();
}

void BundlePoller::start() {
  started_ = true;
  follow();
}

// Begins, changes and ends polls so that they are what the configuration and the store say.
void BundlePoller::follow() {
  if (parts_.fetcher == nullptr) return;
  std::map<TrustDomain, FederationRelationship> wanted = fixed_;
  const auto scanned = scan_relationships(parts_.store.read(), "", [&wanted](FederationRelationship&& relationship) {
    TrustDomain trust_domain = relationship.trust_domain;
    wanted.emplace(std::move(trust_domain), std::move(relationship));
    return true;
  });
  if (!scanned) {
    parts_.logger.error("Some federation relationships cannot be read", {{"error", scanned.error().text()}});
  }
  std::erase_if(polls_, [&](const auto& poll) {
    const auto place = wanted.find(poll.first);
    // what cannot be read may be one of these: they go on
    return place == wanted.end() ? scanned.has_value() : !(place->second == poll.second->relationship());
  });
  for (auto& [trust_domain, relationship] : wanted) {
    if (polls_.contains(trust_domain)) continue;
    auto& poll = polls_[trust_domain] = std::make_unique<BundlePoll>(parts_, std::move(relationship));
    poll->start();
  }
}

bool BundlePoller::refresh(const TrustDomain& trust_domain, Done<void>& done) {
  const auto poll = polls_.find(trust_domain);
  if (poll == polls_.end()) return false;
  poll->second->refresh(std::move(done));
  return true;
}

void BundlePoller::on_commit(uint64_t, const std::vector<Change>& changes) {
  if (!started_) return;
  bool relationships = false;
  for (const Change& change : changes) {
    if (change.table == TableId::federation) relationships = true;
    if (change.table != TableId::bundles || change.deleted) continue;
    const auto trust_domain = TrustDomain::parse(as_text(change.key));
    if (!trust_domain) continue;
    for (auto& [name, poll] : polls_) poll->on_bundle_changed(*trust_domain);
  }
  if (relationships) follow();
}

}  // namespace limpet::server
