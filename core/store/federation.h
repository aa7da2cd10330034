// SPDX-License-Identifier: Apache-2.0
#pragma once
// Federation relationships in the store, by trust domain name: where and how a foreign trust domain's bundle is
// fetched. The bundle itself stands in table bundles. Loop thread only.

#include <functional>
#include <string>

#include "spiffe/id.h"
#include "store/store.h"

namespace limpet {

enum class BundleProfile : int32_t { https_web = 1, https_spiffe = 2 };

struct FederationRelationship {
  TrustDomain trust_domain;
  std::string url;  // of the bundle endpoint, "https://..."
  BundleProfile profile = BundleProfile::https_web;
  SpiffeId endpoint_id;  // of https_spiffe
  bool operator==(const FederationRelationship&) const = default;
};

// NOT_FOUND `federation relationship with trust domain "x" not found`; DATA_LOSS.
Result<FederationRelationship> find_relationship(const Snapshot& snapshot, const TrustDomain& trust_domain);
// In the order of the names, after `after` (empty: all), until `visit` returns false.
Result<void> scan_relationships(const Snapshot& snapshot, std::string_view after,
                                const std::function<bool(FederationRelationship&&)>& visit);
// ABORTED when the trust domain has one by then.
void create_relationship(ChangeSet& changes, const FederationRelationship& relationship);
// ABORTED when the stored one is no longer `old`.
void update_relationship(ChangeSet& changes, const FederationRelationship& old,
                         const FederationRelationship& relationship);
// ABORTED when it is gone by then.
void remove_relationship(ChangeSet& changes, const TrustDomain& trust_domain);

Bytes encode_relationship(const FederationRelationship& relationship);
Result<FederationRelationship> decode_relationship(BytesView bytes);

}  // namespace limpet
