// SPDX-License-Identifier: Apache-2.0
#include "agent/workload_messages.h"

#include <set>

#include "proto/workload.pb.h"

namespace limpet::agent {

std::vector<const CachedBundle*> federated(const std::vector<Identity*>& identities, const IdentityCache& cache,
                                           std::string_view own) {
  std::set<std::string_view> names;
  for (const Identity* identity : identities)
    for (const std::string& name : identity->entry.federates_with)
      if (name != own) names.insert(name);
  std::vector<const CachedBundle*> found;
  for (const std::string_view name : names)
    if (const CachedBundle* bundle = cache.bundle(name)) found.push_back(bundle);
  return found;
}

namespace {

// These and the own one.
std::vector<const CachedBundle*> visible(const std::vector<Identity*>& identities, const IdentityCache& cache,
                                         std::string_view own) {
  auto bundles = federated(identities, cache, own);
  if (const CachedBundle* bundle = cache.bundle(own)) bundles.insert(bundles.begin(), bundle);
  return bundles;
}

void fill(X509SVID& out, const Identity& identity, BytesView roots) {
  wire::set_string(out.spiffe_id, identity.entry.spiffe_id.text());
  wire::set_bytes(out.x509_svid, identity.svid->chain);
  wire::set_bytes(out.x509_svid_key, identity.svid->key.view());
  wire::set_bytes(out.bundle, roots);
  wire::set_string(out.hint, identity.entry.hint);
}

}  // namespace

Result<Bytes> encode_svids(const std::vector<Identity*>& identities, const IdentityCache& cache,
                           std::string_view trust_domain, int64_t now) {
  std::vector<Identity*> ready;
  for (Identity* identity : identities)
    if (identity->svid != nullptr && identity->svid->not_after > now) ready.push_back(identity);
  const CachedBundle* own = cache.bundle(trust_domain);
  wire::Message<X509SVIDResponse> message;
  message.mark_secret();
  X509SVID* svids = wire::set_array(message->svids, message->svids_count, ready.size());
  for (size_t i = 0; i < message->svids_count; i++)
    fill(svids[i], *ready[i], own == nullptr ? BytesView() : own->roots);
  write_roots(message->federated_bundles, message->federated_bundles_count, federated(ready, cache, trust_domain));
  return message.encode();
}

Result<Bytes> encode_bundles(const std::vector<Identity*>& identities, const IdentityCache& cache,
                             std::string_view trust_domain) {
  wire::Message<X509BundlesResponse> message;
  write_roots(message->bundles, message->bundles_count, visible(identities, cache, trust_domain));
  return message.encode();
}

Result<Bytes> encode_jwt_bundles(const std::vector<Identity*>& identities, const IdentityCache& cache,
                                 std::string_view trust_domain) {
  wire::Message<JWTBundlesResponse> message;
  write_jwks(message->bundles, message->bundles_count, visible(identities, cache, trust_domain));
  return message.encode();
}

}  // namespace limpet::agent
