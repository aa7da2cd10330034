// SPDX-License-Identifier: Apache-2.0
#pragma once
// Federation relationships as commands read them: from flags, or from a JSON file with SPIRE's member names.

#include <string>
#include <vector>

#include "cli/command.h"
#include "proto/spire_types.pb.h"
#include "wire/message.h"

namespace limpet::cli {

using RelationshipMessage = wire::Message<spire_api_types_FederationRelationship>;

// INVALID_ARGUMENT in SPIRE's words; NOT_FOUND: no such file.
Result<RelationshipMessage> relationship_from_flags(const Flags& flags);
// {"federationRelationships": [{"trustDomain", "bundleEndpointURL", "bundleEndpointProfile", "endpointSPIFFEID",
// "trustDomainBundle", "trustDomainBundleFormat"}]}; "-" is standard input.
Result<std::vector<RelationshipMessage>> relationships_from_file(const std::string& path);

}  // namespace limpet::cli
