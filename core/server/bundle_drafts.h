// SPDX-License-Identifier: Apache-2.0
#pragma once
// The bundles that one change set will write, by trust domain: what the store has, under what the change set has so
// far. write() ends with one row and one precondition for each. Lives within one turn of the loop.

#include <map>
#include <optional>

#include "store/bundles.h"

namespace limpet::server {

// INVALID_ARGUMENT: more authorities than a bundle may have (base/limits.h).
Result<void> check_bundle_size(const Bundle& bundle);
// The same for what callers and servers above and below add to the own bundle, with room kept for this server's own
// rotations. RESOURCE_EXHAUSTED. What was there already is not held against an addition of the other kind.
inline constexpr size_t kOwnAuthoritiesReserve = 20;
Result<void> check_own_growth(const Bundle& before, const Bundle& after);

class BundleDrafts {
 public:
  explicit BundleDrafts(const Snapshot& snapshot) : snapshot_(snapshot) {}

  // Null: there is none. The pointer dies at the next call. DATA_LOSS.
  Result<const Bundle*> find(const TrustDomain& trust_domain);
  // After find() of the same trust domain.
  void put(const Bundle& bundle);
  void remove(const TrustDomain& trust_domain);
  void write(ChangeSet& changes) const;

 private:
  struct Draft {
    std::optional<Bundle> stored;
    std::optional<Bundle> now;
    bool touched = false;
  };
  const Snapshot& snapshot_;
  std::map<TrustDomain, Draft> drafts_;
};

}  // namespace limpet::server
