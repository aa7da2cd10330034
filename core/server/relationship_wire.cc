// SPDX-License-Identifier: Apache-2.0
#include "server/relationship_wire.h"

#include <algorithm>

#include "server/bundle_drafts.h"
#include "wire/api_types.h"

namespace limpet::server {
namespace {

constexpr size_t kMostUrlBytes = 2048;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

// "host", "host:port", "[::1]:port".
Result<void> check_host(std::string_view host) {
  const size_t bracket = host.find(']');
  const size_t colon = host.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (host.substr(0, colon).empty()) return invalid("bundle endpoint URL must specify the host");
  if (colon == std::string_view::npos) return {};
  const std::string_view port = host.substr(colon + 1);
  const bool digits = std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; });
  if (digits && port.size() <= 5 && (port.empty() || std::stoul(std::string(port)) <= 65'535)) return {};
  return invalid("failed to parse bundle endpoint URL: invalid port \":" + std::string(port) + "\" after host");
}

}  // namespace

Result<void> check_bundle_url(std::string_view url) {
  if (url.size() > kMostUrlBytes) return invalid("failed to parse bundle endpoint URL: longer than 2048 bytes");
  if (std::ranges::any_of(url, [](char c) { return c <= ' ' || c == 0x7f; })) {
    return invalid("failed to parse bundle endpoint URL: invalid character in URL");
  }
  constexpr std::string_view kScheme = "https:";
  if (!url.starts_with(kScheme)) return invalid("bundle endpoint URL must use the https scheme");
  url.remove_prefix(kScheme.size());
  if (!url.starts_with("//")) return invalid("bundle endpoint URL must specify the host");
  url.remove_prefix(2);
  const std::string_view authority = url.substr(0, url.find_first_of("/?#"));
  if (authority.find('@') != std::string_view::npos) {
    return invalid("bundle endpoint URL must not contain user info");
  }
  return check_host(authority);
}

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
