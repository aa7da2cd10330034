// SPDX-License-Identifier: Apache-2.0
#pragma once
// Federation relationships between the wire and the store, with SPIRE's error texts. Pure
// functions.

#include <optional>

#include "proto/spire_types.pb.h"
#include "spiffe/bundle.h"
#include "store/federation.h"

namespace limpet::server {

struct RelationshipInput {
  FederationRelationship relationship;
  std::optional<Bundle> bundle;  // to start with
};
// INVALID_ARGUMENT: what follows "failed to convert federation relationship: ".
Result<RelationshipInput> read_relationship(const spire_api_types_FederationRelationship& in);
// `bundle`: the stored one; null: there is none.
void write_relationship(spire_api_types_FederationRelationship& out, const FederationRelationship& relationship,
                        const Bundle* bundle, const spire_api_types_FederationRelationshipMask* mask);

}  // namespace limpet::server
