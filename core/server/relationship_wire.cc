// SPDX-License-Identifier: Apache-2.0
#include "server/relationship_wire.h"

#include "server/bundle_drafts.h"
#include "spiffe/bundle_url.h"
#include "wire/api_types.h"

namespace limpet::server {
namespace {

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

}  // namespace

Result<RelationshipInput> read_relationship(const spire_api_types_FederationRelationship& in) {
  RelationshipInput out;
  FederationRelationship& relationship = out.relationship;
  TRY_ASSIGN_WITHIN("failed to parse trust domain", relationship.trust_domain,
                    TrustDomain::parse(wire::view(in.trust_domain)));
  TRY(check_bundle_url(wire::view(in.bundle_endpoint_url)));
  relationship.url = wire::view(in.bundle_endpoint_url);
  if (in.which_bundle_endpoint_profile == spire_api_types_FederationRelationship_https_spiffe_tag) {
    relationship.profile = BundleProfile::https_spiffe;
    TRY_ASSIGN_WITHIN("failed to parse endpoint SPIFFE ID", relationship.endpoint_id,
                      SpiffeId::parse(wire::view(in.bundle_endpoint_profile.https_spiffe.endpoint_spiffe_id)));
  } else if (in.which_bundle_endpoint_profile != spire_api_types_FederationRelationship_https_web_tag) {
    return invalid("unsupported bundle endpoint profile type: <nil>");
  }
  if (!in.has_trust_domain_bundle) return out;
  TRY_ASSIGN_WITHIN("failed to parse bundle", Bundle bundle, wire::read_bundle(in.trust_domain_bundle));
  TRY_WITHIN("failed to parse bundle", check_bundle_size(bundle));
  if (bundle.trust_domain != relationship.trust_domain) {
    return invalid("trust domain bundle (\"" + bundle.trust_domain.name() +
                   "\") must match the trust domain of the federation relationship (\"" +
                   relationship.trust_domain.name() + "\")");
  }
  out.bundle = std::move(bundle);
  return out;
}

void write_relationship(spire_api_types_FederationRelationship& out, const FederationRelationship& relationship,
                        const Bundle* bundle, const spire_api_types_FederationRelationshipMask* mask) {
  wire::set_string(out.trust_domain, relationship.trust_domain.name());
  if (mask == nullptr || mask->bundle_endpoint_url) wire::set_string(out.bundle_endpoint_url, relationship.url);
  if (mask == nullptr || mask->bundle_endpoint_profile) {
    if (relationship.profile == BundleProfile::https_web) {
      out.which_bundle_endpoint_profile = spire_api_types_FederationRelationship_https_web_tag;
    } else {
      out.which_bundle_endpoint_profile = spire_api_types_FederationRelationship_https_spiffe_tag;
      wire::set_string(out.bundle_endpoint_profile.https_spiffe.endpoint_spiffe_id, relationship.endpoint_id.text());
    }
  }
  if (bundle != nullptr && (mask == nullptr || mask->trust_domain_bundle)) {
    out.has_trust_domain_bundle = true;
    wire::write_bundle(out.trust_domain_bundle, *bundle);
  }
}

}  // namespace limpet::server
