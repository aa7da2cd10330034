// SPDX-License-Identifier: Apache-2.0
#pragma once
// The Delegated Identity API's responses, encoded. Pure; the SVID response carries keys: send it as a secret.

#include <vector>

#include "agent/identity_cache.h"

namespace limpet::agent {

// What a delegate may have of another's: neither admin nor downstream identities.
inline bool may_be_delegated(const Identity& identity) { return !identity.entry.admin && !identity.entry.downstream; }

// Only identities that may be delegated and have an SVID that is valid after `now` (Unix seconds), in the order given.
Result<Bytes> encode_delegated_svids(const std::vector<Identity*>& identities, const IdentityCache& cache,
                                     std::string_view trust_domain, int64_t now);
// Every bundle there is.
Result<Bytes> encode_delegated_bundles(const IdentityCache& cache);
// Their JWT keys; byte for byte the same for the same keys.
Result<Bytes> encode_delegated_jwt_bundles(const IdentityCache& cache);

}  // namespace limpet::agent
