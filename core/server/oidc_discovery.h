// SPDX-License-Identifier: Apache-2.0
#pragma once
// OpenID Connect discovery: /.well-known/openid-configuration and /keys, from which those who know nothing of SPIFFE
// learn the issuer and the keys of its JWT-SVIDs. Both documents are public. Versions, methods and conditional requests
// are the HTTP server's. Owned by Server; loop thread only.

#include <optional>
#include <string>

#include "config/config.h"
#include "server/bundle_cache.h"
#include "wire/http.h"

namespace limpet::server {

class OidcDiscovery final : public wire::HttpHandler {
 public:
  // `issuer`: the claim `iss` of JWT-SVIDs; empty: they have none, and the document names the host that was asked.
  OidcDiscovery(Loop& loop, const BundleCache& bundles, OidcDiscoveryConfig config, std::string issuer);
  void handle(wire::HttpRequest request, Done<wire::HttpResponse> done) override;

 private:
  [[nodiscard]] std::optional<std::string> host_of(const wire::HttpRequest& request) const;
  [[nodiscard]] wire::HttpResponse configuration(const std::string& base) const;
  wire::HttpResponse keys();

  Loop& loop_;
  const BundleCache& bundles_;
  OidcDiscoveryConfig config_;
  std::string issuer_;
  std::vector<JwtAuthority> rendered_;  // what `keys_` is of
  wire::HttpResponse keys_;
};

// Whether "Example.org:8443" is one of the domains; what does not look like a host and a port is not.
bool is_host_of(std::string_view host, const std::vector<std::string>& domains);
// The document, for an issuer and the address of its keys.
std::string oidc_configuration_json(const std::string& issuer, const std::string& jwks_uri);

}  // namespace limpet::server
