// SPDX-License-Identifier: Apache-2.0
#include "agent/delegated_messages.h"

#include <set>

#include "crypto/der.h"
#include "proto/agent_delegated.pb.h"
#include "wire/api_types.h"

namespace limpet::agent {

namespace {

using Svid = spire_api_agent_delegatedidentity_v1_X509SVIDWithKey;
using Svids = spire_api_agent_delegatedidentity_v1_SubscribeToX509SVIDsResponse;
using Bundles = spire_api_agent_delegatedidentity_v1_SubscribeToX509BundlesResponse;

using JwtBundles = spire_api_agent_delegatedidentity_v1_SubscribeToJWTBundlesResponse;

// Concatenated DER, one certificate each.
Result<std::vector<Bytes>> certificates_of(BytesView chain) {
  std::vector<Bytes> out;
  der::Reader reader(chain);
  while (!reader.empty()) {
    TRY_ASSIGN(const der::Element certificate, reader.next());
    out.push_back(to_bytes(certificate.whole));
  }
  return out;
}

Result<void> fill(Svid& out, const Identity& identity) {
  wire::X509Svid svid;
  TRY_ASSIGN(svid.chain, certificates_of(identity.svid->chain));
  svid.id = identity.entry.spiffe_id;
  svid.expires_at = identity.svid->not_after;
  svid.hint = identity.entry.hint;
  out.has_x509_svid = true;
  wire::write_x509_svid(out.x509_svid, svid);
  wire::set_bytes(out.x509_svid_key, identity.svid->key.view());
  return {};
}

// IDs of the foreign trust domains whose bundles these identities see.
std::vector<std::string> federated_ids(const std::vector<Identity*>& identities, const IdentityCache& cache,
                                       std::string_view own) {
  std::set<std::string> ids;
  for (const Identity* identity : identities) {
    for (const std::string& name : identity->entry.federates_with) {
      const CachedBundle* bundle = name == own ? nullptr : cache.bundle(name);
      if (bundle != nullptr) ids.insert(bundle->bundle.trust_domain.id());
    }
  }
  return {ids.begin(), ids.end()};
}

}  // namespace

Result<Bytes> encode_delegated_svids(const std::vector<Identity*>& identities, const IdentityCache& cache,
                                     std::string_view trust_domain, int64_t now) {
  std::vector<Identity*> ready;
  for (Identity* identity : identities)
    if (may_be_delegated(*identity) && identity->svid != nullptr && identity->svid->not_after > now)
      ready.push_back(identity);
  wire::Message<Svids> message;
  message.mark_secret();
  Svid* svids = wire::set_array(message->x509_svids, message->x509_svids_count, ready.size());
  for (size_t i = 0; i < message->x509_svids_count; i++)
    TRY_WITHIN("could not serialize response", fill(svids[i], *ready[i]));
  wire::write_strings(message->federates_with, message->federates_with_count,
                      federated_ids(identities, cache, trust_domain));
  return message.encode();
}

Result<Bytes> encode_delegated_bundles(const IdentityCache& cache) {
  wire::Message<Bundles> message;
  auto* out = wire::set_array(message->ca_certificates, message->ca_certificates_count, cache.bundles().size());
  size_t i = 0;
  for (const auto& [name, cached] : cache.bundles()) {
    if (i == message->ca_certificates_count) break;
    wire::set_string(out[i].key, cached.bundle.trust_domain.id());
    wire::set_bytes(out[i].value, cached.roots);
    i++;
  }
  return message.encode();
}

Result<Bytes> encode_delegated_jwt_bundles(const IdentityCache& cache) {
  wire::Message<JwtBundles> message;
  auto* out = wire::set_array(message->bundles, message->bundles_count, cache.bundles().size());
  size_t i = 0;
  for (const auto& [name, cached] : cache.bundles()) {
    if (i == message->bundles_count) break;
    wire::set_string(out[i].key, cached.bundle.trust_domain.id());
    wire::set_bytes(out[i].value, as_bytes(bundle_to_jwks(cached.bundle)));
    i++;
  }
  return message.encode();
}

}  // namespace limpet::agent
