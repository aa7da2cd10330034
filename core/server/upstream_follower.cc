// SPDX-License-Identifier: Apache-2.0
#include "server/upstream_follower.h"

#include <algorithm>

namespace limpet::server {
namespace {

constexpr int64_t kAgainMs = 5'000;  // SPIRE's interval of asking the server above

}  // namespace

bool merge_upstream(Bundle& bundle, const UpstreamBundle& upstream) {
  bool changed = false;
  for (const Bytes& root : upstream.x509_roots) {
    if (std::ranges::find(bundle.x509_authorities, root, &X509Authority::der) != bundle.x509_authorities.end())
      continue;
    bundle.x509_authorities.push_back({root, false});
    changed = true;
  }
  for (const UpstreamJwtKey& key : upstream.jwt_keys) {
    const auto have = std::ranges::find(bundle.jwt_authorities, key.id, &JwtAuthority::key_id);
    if (have == bundle.jwt_authorities.end()) {
      bundle.jwt_authorities.push_back({key.id, key.spki, key.expires_at, key.tainted});
      changed = true;
    } else if (key.tainted && !have->tainted) {
      have->tainted = true;
      changed = true;
    }
  }
  return changed;
}

UpstreamFollower::UpstreamFollower(Loop& loop, Logger& logger, Health& health, BundleCache& bundles,
                                   UpstreamAuthority* upstream)
    : logger_(logger), health_(health), bundles_(bundles), upstream_(upstream), again_(loop) {}

void UpstreamFollower::start() {
  if (upstream_ != nullptr) watch();
}

void UpstreamFollower::watch() { watch_ = upstream_->watch_bundle(*this); }

void UpstreamFollower::on_upstream_bundle(UpstreamBundle bundle) {
  // A root that cannot be read would verify nothing and only grow the bundle.
  std::erase_if(bundle.x509_roots, [](const Bytes& root) { return !Certificate::parse(root); });
  waiting_ = std::move(bundle);
  if (!merged_.armed()) take_waiting();
}

void UpstreamFollower::take_waiting() {
  UpstreamBundle news = std::move(*waiting_);
  waiting_.reset();
  Bundle own;
  if (bundles_.own() != nullptr) own = *bundles_.own();
  if (!merge_upstream(own, news)) return;
  bundles_.edit_own([n = std::move(news)](Bundle& bundle, ChangeSet&) { return merge_upstream(bundle, n); },
                    merged_.then<&UpstreamFollower::on_merged>(this));
}

void UpstreamFollower::on_merged(Result<Bundle> merged) {
  if (merged) {
    logger_.info(
        "Bundle of the upstream authority taken over",
        {{"upstream_authority", upstream_->name()}, {"sequence_number", std::to_string(merged->sequence_number)}});
  } else {
    logger_.warn("Bundle of the upstream authority not stored, trying again", {{"error", merged.error().text()}});
  }
  if (waiting_) take_waiting();
}

void UpstreamFollower::on_upstream_watch_end(Result<void> why) {
  again_.start<&UpstreamFollower::watch>(kAgainMs, this);
  const std::string trouble = why ? std::string() : why.error().text();
  if (trouble != trouble_) {
    if (trouble.empty()) {
      logger_.info("Upstream authority can be asked again", {{"upstream_authority", upstream_->name()}});
    } else {
      logger_.warn("Upstream authority cannot be asked, trying again; what was signed stays valid",
                   {{"upstream_authority", upstream_->name()}, {"error", trouble}});
    }
  }
  trouble_ = trouble;
  health_.report("upstream", trouble.empty() ? HealthState::ok : HealthState::degraded, trouble);
}

}  // namespace limpet::server
