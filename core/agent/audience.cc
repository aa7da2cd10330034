// SPDX-License-Identifier: Apache-2.0
#include "agent/audience.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "agent/workload_messages.h"
#include "base/secret.h"

namespace limpet::agent {

namespace {
constexpr size_t kIdleAudiences = 256;  // without members, kept for their encoded answers: 256 times some 2 kB
}  // namespace

Audiences::Audiences(Loop& loop, const Clock& clock, IdentityCache& cache, std::string trust_domain)
    : loop_(loop), clock_(clock), cache_(cache), trust_domain_(std::move(trust_domain)) {}
Audiences::~Audiences() = default;

Audience& Audiences::find(SelectorSet selectors) {
  auto place = audiences_.find(selectors);
  if (place == audiences_.end()) {
    trim();
    auto made = std::unique_ptr<Audience>(new Audience(*this, selectors));
    place = audiences_.emplace(std::move(selectors), std::move(made)).first;
  }
  Audience& audience = *place->second;
  if (audience.generation_ != cache_.generation() || clock_.now() >= audience.valid_until_) audience.rematch();
  audience.used_at_ = loop_.now_ms();
  for (Identity* identity : audience.identities_) identity->used_at = audience.used_at_;
  return audience;
}

void Audiences::join(Audience& audience, AudienceMember& member) {
  audience.members_.push_back(&member);
  if (audience.members_.size() > 1) return;
  for (Identity* identity : audience.identities_) identity->watchers++;
}

void Audiences::leave(Audience& audience, AudienceMember& member) {
  if (std::erase(audience.members_, &member) == 0 || !audience.members_.empty()) return;
  if (audience.generation_ != cache_.generation()) return;  // the next refresh() counts anew
  for (Identity* identity : audience.identities_) identity->watchers--;
}

void Audiences::watch_bundles(AudienceMember& member) { bundle_watchers_.push_back(&member); }
void Audiences::unwatch_bundles(AudienceMember& member) { std::erase(bundle_watchers_, &member); }

void Audiences::refresh() {
  for (auto& [id, identity] : cache_.identities()) identity.watchers = 0;
  std::vector<Audience*> changed;
  for (auto& [selectors, audience] : audiences_) {
    if (audience->members_.empty()) continue;  // matched anew when next asked for
    if (audience->rematch()) changed.push_back(audience.get());
    for (Identity* identity : audience->identities_) identity->watchers++;
  }
  for (Audience* audience : changed)
    for (size_t i = 0; i < audience->members_.size(); i++) audience->members_[i]->on_view_changed();
  if (std::exchange(bundles_told_, cache_.bundles_generation()) == cache_.bundles_generation()) return;
  for (size_t i = 0; i < bundle_watchers_.size(); i++) bundle_watchers_[i]->on_view_changed();
}

// Drops the idle audience used longest ago when there are too many.
void Audiences::trim() {
  if (audiences_.size() < kIdleAudiences) return;
  size_t idle = 0;
  auto oldest = audiences_.end();
  for (auto place = audiences_.begin(); place != audiences_.end(); ++place) {
    if (!place->second->members_.empty()) continue;
    idle++;
    if (oldest == audiences_.end() || place->second->used_at_ < oldest->second->used_at_) oldest = place;
  }
  if (idle >= kIdleAudiences) audiences_.erase(oldest);
}

Audience::~Audience() { forget(); }

bool Audience::rematch() {
  IdentityCache& cache = owner_.cache_;
  const int64_t now = owner_.clock_.now();
  identities_ = cache.match(selectors_);
  generation_ = cache.generation();
  valid_until_ = std::numeric_limits<int64_t>::max();
  ready_ = 0;
  std::vector<uint64_t> view;
  const auto add_bundle = [&](std::string_view name) {
    const CachedBundle* bundle = cache.bundle(name);
    view.push_back(bundle == nullptr ? 0 : bundle->version);
  };
  add_bundle(owner_.trust_domain_);
  for (const Identity* identity : identities_) {
    view.push_back(identity->version);
    for (const std::string& name : identity->entry.federates_with) add_bundle(name);
    if (identity->svid == nullptr || identity->svid->not_after <= now) {
      view.push_back(0);
      continue;
    }
    ready_++;
    valid_until_ = std::min(valid_until_, identity->svid->not_after);
  }
  if (view == view_) return false;
  view_ = std::move(view);
  forget();
  return true;
}

const Bytes& Audience::svids() {
  if (svids_.empty()) {
    auto bytes = encode_svids(identities_, owner_.cache_, owner_.trust_domain_, owner_.clock_.now());
    if (bytes) svids_ = std::move(*bytes);
  }
  return svids_;
}

const Bytes& Audience::bundles() {
  if (bundles_.empty()) {
    auto bytes = encode_bundles(identities_, owner_.cache_, owner_.trust_domain_);
    if (bytes) bundles_ = std::move(*bytes);
  }
  return bundles_;
}

const Bytes& Audience::jwt_bundles() {
  if (jwt_bundles_.empty()) {
    auto bytes = encode_jwt_bundles(identities_, owner_.cache_, owner_.trust_domain_);
    if (bytes) jwt_bundles_ = std::move(*bytes);
  }
  return jwt_bundles_;
}

void Audience::forget() {
  wipe(svids_);
  bundles_.clear();
  jwt_bundles_.clear();
}

}  // namespace limpet::agent
