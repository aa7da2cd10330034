// SPDX-License-Identifier: Apache-2.0
#include "server/oidc_discovery.h"

#include <yyjson.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace limpet::server {
namespace {

constexpr std::string_view kConfiguration = "/.well-known/openid-configuration";
constexpr std::string_view kKeys = "/keys";
constexpr size_t kPortDigits = 5;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool same_name(std::string_view a, std::string_view b) { return std::ranges::equal(a, b, {}, lower, lower); }

// "example.org:8443" without ":8443". What follows the last colon must be a port, or the host is not one.
std::optional<std::string_view> without_port(std::string_view host) {
  const size_t bracket = host.rfind(']');
  const size_t colon = host.rfind(':');
  if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket)) return host;
  const std::string_view port = host.substr(colon + 1);
  const bool digits = std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; });
  if (port.empty() || port.size() > kPortDigits || !digits) return std::nullopt;
  return host.substr(0, colon);
}

// A verifier looks again each time, which costs it a 304: a key is in the document before anything is signed with it.
wire::HttpResponse document(const std::string& json) {
  wire::HttpResponse response = wire::http_body(200, "application/json", json);
  response.fields.emplace_back("etag", wire::http_etag(response.body));
  response.fields.emplace_back("cache-control", "no-cache");
  return response;
}

}  // namespace

bool is_host_of(std::string_view host, const std::vector<std::string>& domains) {
  const auto name = without_port(host);
  return name && std::ranges::any_of(domains, [&](const std::string& domain) { return same_name(*name, domain); });
}

// The members are those of SPIRE's document, in its order.
std::string oidc_configuration_json(const std::string& issuer, const std::string& jwks_uri) {
  const std::unique_ptr<yyjson_mut_doc, decltype(&yyjson_mut_doc_free)> doc(yyjson_mut_doc_new(nullptr),
                                                                            &yyjson_mut_doc_free);
  yyjson_mut_val* root = yyjson_mut_obj(doc.get());
  yyjson_mut_doc_set_root(doc.get(), root);
  yyjson_mut_obj_add_strncpy(doc.get(), root, "issuer", issuer.data(), issuer.size());
  yyjson_mut_obj_add_strncpy(doc.get(), root, "jwks_uri", jwks_uri.data(), jwks_uri.size());
  yyjson_mut_obj_add_str(doc.get(), root, "authorization_endpoint", "");
  yyjson_mut_arr_add_str(doc.get(), yyjson_mut_obj_add_arr(doc.get(), root, "response_types_supported"), "id_token");
  yyjson_mut_obj_add_arr(doc.get(), root, "subject_types_supported");
  yyjson_mut_val* algorithms = yyjson_mut_obj_add_arr(doc.get(), root, "id_token_signing_alg_values_supported");
  for (const char* name : {"RS256", "ES256", "ES384"}) yyjson_mut_arr_add_str(doc.get(), algorithms, name);
  size_t size = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(yyjson_mut_write(doc.get(), YYJSON_WRITE_PRETTY, &size),
                                                         &std::free);
  return text == nullptr ? std::string() : std::string(text.get(), size);
}

OidcDiscovery::OidcDiscovery(Loop& loop, const BundleCache& bundles, OidcDiscoveryConfig config, std::string issuer)
    : loop_(loop), bundles_(bundles), config_(std::move(config)), issuer_(std::move(issuer)) {}

void OidcDiscovery::handle(wire::HttpRequest request, Done<wire::HttpResponse> done) {
  const auto host = host_of(request);
  if (!host) return wire::http_answer(loop_, std::move(done), wire::http_text(421, "not one of the domains served\n"));
  std::string_view path = request.path;
  const bool below = path.starts_with(config_.server_path_prefix);
  if (below) path.remove_prefix(config_.server_path_prefix.size());
  if (below && path == kKeys) return wire::http_answer(loop_, std::move(done), keys());
  if (!below || path != kConfiguration) {
    return wire::http_answer(loop_, std::move(done), wire::http_text(404, "not found\n"));
  }
  const bool plain =
      config_.allow_insecure_scheme && !request.tls && wire::find_field(request.fields, "x-forwarded-proto") != "https";
  wire::http_answer(loop_, std::move(done),
                    configuration((plain ? "http://" : "https://") + *host + config_.server_path_prefix));
}

// The host that was asked for, if it is one of ours. Whoever reaches the plain listener is the proxy in front, which
// says what it was asked for itself.
std::optional<std::string> OidcDiscovery::host_of(const wire::HttpRequest& request) const {
  std::string_view host = request.host;
  if (!request.tls) {
    const std::string_view forwarded = wire::find_field(request.fields, "x-forwarded-host");
    if (!forwarded.empty()) host = forwarded;
  }
  if (!is_host_of(host, config_.domains)) return std::nullopt;
  return std::string(host);
}

wire::HttpResponse OidcDiscovery::configuration(const std::string& base) const {
  return document(oidc_configuration_json(issuer_.empty() ? base : issuer_,
                                          config_.jwks_uri.empty() ? base + std::string(kKeys) : config_.jwks_uri));
}

wire::HttpResponse OidcDiscovery::keys() {
  const Bundle* own = bundles_.own();
  if (own == nullptr) return wire::http_text(503, "no keys yet\n");
  if (keys_.body.empty() || rendered_ != own->jwt_authorities) {
    rendered_ = own->jwt_authorities;
    keys_ = document(bundle_to_jwks(*own, {.use = config_.set_key_use ? "sig" : "", .algorithm = true}));
  }
  return keys_;
}

}  // namespace limpet::server
