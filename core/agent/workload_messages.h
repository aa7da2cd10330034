// SPDX-License-Identifier: Apache-2.0
#pragma once
// The Workload API's responses that are streamed, encoded. Pure; the SVID response carries keys: wipe() it.

#include <vector>

#include "agent/identity_cache.h"
#include "wire/message.h"

namespace limpet::agent {

// The foreign bundles these identities may see, by trust domain.
std::vector<const CachedBundle*> federated(const std::vector<Identity*>& identities, const IdentityCache& cache,
                                           std::string_view own);

// Fills a map from trust domain ID to concatenated DER, or to a JWKS.
template <class Field>
void write_roots(Field*& field, pb_size_t& count, const std::vector<const CachedBundle*>& bundles) {
  Field* out = wire::set_array(field, count, bundles.size());
  for (size_t i = 0; i < count; i++) {
    wire::set_string(out[i].key, bundles[i]->bundle.trust_domain.id());
    wire::set_bytes(out[i].value, bundles[i]->roots);
  }
}
template <class Field>
void write_jwks(Field*& field, pb_size_t& count, const std::vector<const CachedBundle*>& bundles) {
  Field* out = wire::set_array(field, count, bundles.size());
  for (size_t i = 0; i < count; i++) {
    wire::set_string(out[i].key, bundles[i]->bundle.trust_domain.id());
    wire::set_bytes(out[i].value, as_bytes(bundle_to_jwks(bundles[i]->bundle)));
  }
}

// Only identities with an SVID that is valid after `now` (Unix seconds) appear, in the order given.
Result<Bytes> encode_svids(const std::vector<Identity*>& identities, const IdentityCache& cache,
                           std::string_view trust_domain, int64_t now);
Result<Bytes> encode_bundles(const std::vector<Identity*>& identities, const IdentityCache& cache,
                             std::string_view trust_domain);
// Byte for byte the same for the same keys.
Result<Bytes> encode_jwt_bundles(const std::vector<Identity*>& identities, const IdentityCache& cache,
                                 std::string_view trust_domain);

}  // namespace limpet::agent
