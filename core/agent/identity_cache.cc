// SPDX-License-Identifier: Apache-2.0
#include "agent/identity_cache.h"

#include <algorithm>
#include <utility>

namespace limpet::agent {

namespace {

bool same_entry(const Entry& a, const Entry& b) {
  return a.revision_number == b.revision_number && a.created_at == b.created_at && a.spiffe_id == b.spiffe_id &&
         a.selectors == b.selectors && a.federates_with == b.federates_with && a.hint == b.hint &&
         a.store_svid == b.store_svid && a.admin == b.admin && a.downstream == b.downstream &&
         a.disable_x509_svid_prefetch == b.disable_x509_svid_prefetch &&
         a.jwt_svid_include_jti == b.jwt_svid_include_jti;
}

bool older(const Entry& a, const Entry& b) {
  return a.created_at != b.created_at ? a.created_at < b.created_at : a.id < b.id;
}

// Of entries with the same hint the oldest stays.
void drop_repeated_hints(std::vector<Identity*>& found) {
  std::map<std::string_view, Identity*> best;
  for (Identity* identity : found) {
    if (identity->entry.hint.empty()) continue;
    Identity*& kept = best[identity->entry.hint];
    if (kept == nullptr || older(identity->entry, kept->entry)) kept = identity;
  }
  if (best.empty()) return;
  std::erase_if(found, [&best](Identity* i) { return !i->entry.hint.empty() && best[i->entry.hint] != i; });
}

}  // namespace

bool IdentityCache::put_entry(Entry entry) {
  auto [place, created] = identities_.try_emplace(entry.id);
  Identity& identity = place->second;
  if (!created) {
    if (same_entry(identity.entry, entry)) return false;
    unindex(identity);
    if (identity.entry.spiffe_id != entry.spiffe_id && identity.svid != nullptr) drop_svid(identity);
    identity.failures = 0;
    identity.retry_at = 0;
  }
  identity.entry = std::move(entry);
  index(identity);
  identity.version = ++generation_;
  return true;
}

bool IdentityCache::remove_entry(const std::string& id) {
  const auto place = identities_.find(id);
  if (place == identities_.end()) return false;
  unindex(place->second);
  if (place->second.svid != nullptr) svids_--;
  identities_.erase(place);
  generation_++;
  return true;
}

void IdentityCache::put_svid(Identity& identity, std::unique_ptr<const CachedSvid> svid) {
  if (identity.svid == nullptr) svids_++;
  identity.svid = std::move(svid);
  identity.failures = 0;
  identity.retry_at = 0;
  identity.version = ++generation_;
}

void IdentityCache::drop_svid(Identity& identity) {
  if (identity.svid == nullptr) return;
  identity.svid.reset();
  svids_--;
  identity.version = ++generation_;
}

bool IdentityCache::put_bundle(Bundle bundle) {
  CachedBundle& cached = bundles_[bundle.trust_domain.name()];
  if (cached.bundle == bundle) return false;
  cached.bundle = std::move(bundle);
  cached.roots.clear();
  for (const X509Authority& authority : cached.bundle.x509_authorities) append(cached.roots, authority.der);
  find_tainted();
  cached.version = bundles_generation_ = ++generation_;
  return true;
}

void IdentityCache::find_tainted() {
  tainted_.clear();
  for (const auto& [name, cached] : bundles_) {
    for (const X509Authority& authority : cached.bundle.x509_authorities) {
      if (!authority.tainted) continue;
      if (const auto root = Certificate::parse(authority.der)) tainted_.insert(root->subject_key_id);
    }
  }
}

bool IdentityCache::remove_bundle(const std::string& trust_domain) {
  if (bundles_.erase(trust_domain) == 0) return false;
  bundles_generation_ = ++generation_;
  return true;
}

Identity* IdentityCache::find(std::string_view id) {
  const auto place = identities_.find(id);
  return place == identities_.end() ? nullptr : &place->second;
}

const CachedBundle* IdentityCache::bundle(std::string_view trust_domain) const {
  const auto place = bundles_.find(trust_domain);
  return place == bundles_.end() ? nullptr : &place->second;
}

std::vector<Identity*> IdentityCache::match(const SelectorSet& workload) {
  std::vector<Identity*> found;
  for (const Selector& selector : workload) {
    const auto candidates = by_first_selector_.find(selector.text());
    if (candidates == by_first_selector_.end()) continue;
    for (Identity* identity : candidates->second)
      if (is_subset(identity->entry.selectors, workload)) found.push_back(identity);
  }
  std::sort(found.begin(), found.end(), [](const Identity* a, const Identity* b) { return a->entry.id < b->entry.id; });
  drop_repeated_hints(found);
  return found;
}

// Entries whose SVID goes to a store are not for workloads.
void IdentityCache::index(Identity& identity) {
  if (identity.entry.store_svid || identity.entry.selectors.empty()) return;
  by_first_selector_[identity.entry.selectors.front().text()].push_back(&identity);
}

void IdentityCache::unindex(const Identity& identity) {
  if (identity.entry.selectors.empty()) return;
  const auto place = by_first_selector_.find(identity.entry.selectors.front().text());
  if (place == by_first_selector_.end()) return;
  std::erase(place->second, &identity);
  if (place->second.empty()) by_first_selector_.erase(place);
}

}  // namespace limpet::agent
