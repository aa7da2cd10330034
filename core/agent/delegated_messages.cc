// SPDX-License-Identifier: Apache-2.0
#include "agent/delegated_messages.h"

#include "agent/workload_messages.h"
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

std::vector<const CachedBundle*> all_bundles(const IdentityCache& cache) {
  std::vector<const CachedBundle*> all;
  for (const auto& [name, bundle] : cache.bundles()) all.push_back(&bundle);
  return all;
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
  std::vector<std::string> foreign;
  for (const CachedBundle* bundle : federated(identities, cache, trust_domain))
    foreign.push_back(bundle->bundle.trust_domain.id());
  wire::write_strings(message->federates_with, message->federates_with_count, foreign);
  return message.encode();
}

Result<Bytes> encode_delegated_bundles(const IdentityCache& cache) {
  wire::Message<Bundles> message;
  write_roots(message->ca_certificates, message->ca_certificates_count, all_bundles(cache));
  return message.encode();
}

Result<Bytes> encode_delegated_jwt_bundles(const IdentityCache& cache) {
  wire::Message<JwtBundles> message;
  write_jwks(message->bundles, message->bundles_count, all_bundles(cache));
  return message.encode();
}

}  // namespace limpet::agent
