// SPDX-License-Identifier: Apache-2.0
#pragma once
// The Workload API's responses that are streamed, encoded. Pure; the SVID response carries keys: wipe() it.

#include <vector>

#include "agent/identity_cache.h"

namespace limpet::agent {

// Only identities with an SVID that is valid after `now` (Unix seconds) appear, in the order given.
Result<Bytes> encode_svids(const std::vector<Identity*>& identities, const IdentityCache& cache,
                           std::string_view trust_domain, int64_t now);
Result<Bytes> encode_bundles(const std::vector<Identity*>& identities, const IdentityCache& cache,
                             std::string_view trust_domain);
// Byte for byte the same for the same keys.
Result<Bytes> encode_jwt_bundles(const std::vector<Identity*>& identities, const IdentityCache& cache,
                                 std::string_view trust_domain);

}  // namespace limpet::agent
