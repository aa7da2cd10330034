// SPDX-License-Identifier: Apache-2.0
#include "server/upstream_follower.h"

#include <algorithm>

#include "base/limits.h"
#include "server/bundle_drafts.h"

namespace limpet::server {
namespace {

constexpr int64_t kAgainMs = 5'000;  // SPIRE's interval of asking the server above
constexpr int64_t kLeaveAgainMs = 30'000;

bool holds(const std::vector<Bytes>& list, const Bytes& der) { return std::ranges::find(list, der) != list.end(); }
constexpr size_t kMostRoots = limits::kBundleCertificates - kOwnAuthoritiesReserve;
constexpr size_t kMostKeys = limits::kBundleKeys - kOwnAuthoritiesReserve;

bool full(const Bundle& bundle) {
  return bundle.x509_authorities.size() >= kMostRoots || bundle.jwt_authorities.size() >= kMostKeys;
}

}  // namespace

bool merge_upstream(Bundle& bundle, const UpstreamBundle& upstream, bool taints) {
  bool changed = false;
  for (const Bytes& root : upstream.x509_roots) {
    if (std::ranges::find(bundle.x509_authorities, root, &X509Authority::der) != bundle.x509_authorities.end())
      continue;
    if (bundle.x509_authorities.size() >= kMostRoots) break;
    bundle.x509_authorities.push_back({root, false});
    changed = true;
  }
  for (const UpstreamJwtKey& key : upstream.jwt_keys) {
    const auto have = std::ranges::find(bundle.jwt_authorities, key.id, &JwtAuthority::key_id);
    if (have == bundle.jwt_authorities.end()) {
      if (bundle.jwt_authorities.size() >= kMostKeys) continue;
      bundle.jwt_authorities.push_back({key.id, key.spki, key.expires_at, key.tainted});
      changed = true;
    } else if (key.tainted && !have->tainted) {
      have->tainted = true;
      changed = true;
    }
  }
  if (!taints) return changed;
  for (X509Authority& root : bundle.x509_authorities) {
    if (root.tainted || !holds(upstream.tainted_roots, root.der)) continue;
    root.tainted = true;
    changed = true;
  }
  // an upstream without any root says nothing of those it had
  if (!upstream.x509_roots.empty()) {
    changed |= std::erase_if(bundle.x509_authorities, [&](const X509Authority& root) {
                 return root.tainted && !holds(upstream.x509_roots, root.der);
               }) > 0;
  }
  return changed;
}

UpstreamFollower::UpstreamFollower(Loop& loop, Logger& logger, Health& health, BundleCache& bundles, X509Ca& ca,
                                   UpstreamAuthority* upstream, Moved moved)
    : logger_(logger),
      health_(health),
      bundles_(bundles),
      ca_(ca),
      upstream_(upstream),
      moved_(std::move(moved)),
      again_(loop),
      leave_again_(loop) {}

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
  // Everything signed under a tainted root is signed anew at once, which has to be under another one by then.
  const bool stays = !under_tainted(ca_.current(), news);
  if (stays) {
    held_.reset();
    leave_again_.stop();
    report_stuck({});
  } else {
    const bool leaving = held_.has_value();  // an upstream says the same again and again; each try costs it a signature
    held_ = news;
    if (!leaving) leave_tainted_root();
  }
  Bundle own;
  if (bundles_.own() != nullptr) own = *bundles_.own();
  const bool changed = merge_upstream(own, news, stays);
  if (full(own) && !full_)
    logger_.warn("The bundle is full, what the upstream authority adds is left out; revoke what is no longer needed",
                 {{"most_x509", std::to_string(kMostRoots)}, {"most_jwt", std::to_string(kMostKeys)}});
  full_ = full(own);
  if (!changed) return;
  bundles_.edit_own(
      [n = std::move(news), stays](Bundle& bundle, ChangeSet&) { return merge_upstream(bundle, n, stays); },
      merged_.then<&UpstreamFollower::on_merged>(this));
}

bool UpstreamFollower::under_tainted(const CaSlot* slot, const UpstreamBundle& news) {
  if (slot == nullptr || slot->upstream_authority_id.empty()) return false;
  return std::ranges::any_of(news.tainted_roots, [&](const Bytes& der) {
    const auto root = Certificate::parse(der);
    return root && hex_encode(root->subject_key_id) == slot->upstream_authority_id;
  });
}

void UpstreamFollower::leave_tainted_root() {
  if (new_ca_.armed()) return;
  ca_.prepare_now(new_ca_.then<&UpstreamFollower::on_new_ca>(this));
}

void UpstreamFollower::on_new_ca(Result<void> prepared) {
  if (!held_) return;
  const std::string left =
      ca_.current() != nullptr ? hex_encode(ca_.current()->authority->certificate.subject_key_id) : std::string();
  if (prepared && under_tainted(ca_.next(), *held_))
    prepared = fail(Code::failed_precondition,
                    "the upstream authority still signs under the root that it tainted; have it sign under another one "
                    "(a SPIFFE server: prepare and activate another X.509 authority there)");
  if (prepared) prepared = ca_.activate();
  if (!prepared) {
    logger_.warn("The CA hangs under a tainted root and cannot be replaced yet, trying again",
                 {{"upstream_authority", upstream_->name()}, {"error", prepared.error().text()}});
    report_stuck("the X.509 CA hangs under root " + ca_.current()->upstream_authority_id +
                 ", which upstream authority " + upstream_->name() +
                 " tainted, and cannot be replaced yet: " + prepared.error().text());
    leave_again_.start<&UpstreamFollower::leave_tainted_root>(kLeaveAgainMs, this);
    return;
  }
  logger_.info("The CA hung under a root that was tainted above and is replaced", {{"local_authority_id", left}});
  report_stuck({});
  if (moved_) moved_(left);
  if (!waiting_) waiting_ = std::move(held_);
  held_.reset();
  if (!merged_.armed()) take_waiting();
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
  report();
}

void UpstreamFollower::report_stuck(std::string why) {
  if (why == stuck_) return;
  stuck_ = std::move(why);
  report();
}

void UpstreamFollower::report() {
  std::string why = stuck_.empty() || trouble_.empty() ? stuck_ + trouble_ : stuck_ + "; " + trouble_;
  const HealthState state = why.empty() ? HealthState::ok : HealthState::degraded;
  health_.report("upstream", state, std::move(why));
}

}  // namespace limpet::server
