// SPDX-License-Identifier: Apache-2.0
#pragma once
// Audiences: all workloads with the same selectors see the same, so what they see is matched once and encoded once, and
// only those whose view changed are told. Owned by the Agent; loop thread only.

#include <map>
#include <memory>
#include <vector>

#include "agent/identity_cache.h"
#include "base/clock.h"
#include "loop/loop.h"

namespace limpet::agent {

class AudienceMember {
 public:
  virtual ~AudienceMember() = default;
  virtual void on_view_changed() = 0;  // may not leave the audience before it returns
};

class Audience;

class Audiences {
 public:
  Audiences(Loop& loop, const Clock& clock, IdentityCache& cache, std::string trust_domain);
  ~Audiences();

  // The audience of these selectors, current. It lives at least as long as it has members, or until the next find().
  Audience& find(SelectorSet selectors);
  void join(Audience& audience, AudienceMember& member);
  void leave(Audience& audience, AudienceMember& member);
  // Tells the member when any bundle has changed, whatever its selectors are.
  void watch_bundles(AudienceMember& member);
  void unwatch_bundles(AudienceMember& member);
  // The cache changed: matches anew and tells those whose view is another.
  void refresh();
  [[nodiscard]] size_t size() const { return audiences_.size(); }
  [[nodiscard]] const std::string& trust_domain() const { return trust_domain_; }
  [[nodiscard]] const IdentityCache& cache() const { return cache_; }

 private:
  friend class Audience;
  void trim();

  Loop& loop_;
  const Clock& clock_;
  IdentityCache& cache_;
  std::string trust_domain_;
  std::map<SelectorSet, std::unique_ptr<Audience>> audiences_;
  std::vector<AudienceMember*> bundle_watchers_;
  uint64_t bundles_told_ = 0;  // the bundles' generation that the watchers know of
};

// One audience's view of the cache.
class Audience {
 public:
  ~Audience();
  [[nodiscard]] bool empty() const { return identities_.empty(); }
  // How many of its identities have a valid SVID, and how many have none yet.
  [[nodiscard]] size_t ready() const { return ready_; }
  [[nodiscard]] size_t missing() const { return identities_.size() - ready_; }
  [[nodiscard]] const std::vector<Identity*>& identities() const { return identities_; }
  // Encoded X509SVIDResponse, X509BundlesResponse, JWTBundlesResponse; made when first asked for. Copy before returning
  // to the loop.
  const Bytes& svids();
  const Bytes& bundles();
  const Bytes& jwt_bundles();

 private:
  friend class Audiences;
  Audience(Audiences& owner, SelectorSet selectors) : owner_(owner), selectors_(std::move(selectors)) {}
  bool rematch();  // true: the view is another
  void forget();

  Audiences& owner_;
  SelectorSet selectors_;
  std::vector<Identity*> identities_;
  std::vector<uint64_t> view_;  // what the view was made of, to see whether it changed
  std::vector<AudienceMember*> members_;
  size_t ready_ = 0;
  uint64_t generation_ = 0;
  int64_t valid_until_ = 0;  // Unix seconds: when the first of its SVIDs expires
  int64_t used_at_ = 0;
  Bytes svids_;  // zeroed on release: holds keys
  Bytes bundles_;
  Bytes jwt_bundles_;
};

}  // namespace limpet::agent
