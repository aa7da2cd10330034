// SPDX-License-Identifier: Apache-2.0
// The rules of [server.oidc_discovery]: what its documents say is an address that anybody may follow, so each name in
// them is checked, and what is served without TLS stays on this host.
#include <algorithm>

#include "config/keys.h"

namespace limpet {
namespace {

constexpr size_t kDomains = 100;
constexpr size_t kNameBytes = 253;  // of a DNS name
constexpr size_t kUrlBytes = 2048;

std::string quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

bool is_label_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

// A DNS name or an IPv4 address; "[::1]" for an IPv6 one. No port: those of the request's Host are passed over.
bool is_host(std::string_view name) {
  if (name.starts_with('[') && name.ends_with(']') && name.size() > 4) {
    name = name.substr(1, name.size() - 2);
    return std::ranges::all_of(name, [](char c) { return is_label_char(c) || c == ':' || c == '.'; });
  }
  if (name.empty() || name.size() > kNameBytes || name.starts_with('.') || name.ends_with('.')) return false;
  return name.find("..") == std::string_view::npos &&
         std::ranges::all_of(name, [](char c) { return is_label_char(c) || c == '.'; });
}

bool is_loopback(std::string_view address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

// What may stand in an address: printable ASCII without the characters that end or hide one.
bool is_plain(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    return c > ' ' && c < 0x7f && std::string_view("\"\\<>^`{|}#?").find(c) == std::string_view::npos;
  });
}

bool is_url(std::string_view url, bool allow_http) {
  if (url.size() > kUrlBytes || !is_plain(url)) return false;
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (!url.starts_with(scheme)) continue;
    const std::string_view rest = url.substr(scheme.size());
    return (allow_http || scheme == "https://") && !rest.empty() && rest.front() != '/' &&
           rest.find('@') == std::string_view::npos;
  }
  return false;
}

}  // namespace

std::vector<Mistake> oidc_mistakes(const ServerConfig& server) {
  const OidcDiscoveryConfig& c = server.oidc_discovery;
  std::vector<Mistake> out;
  const auto add = [&out](std::string_view key, std::string what) {
    out.push_back({"oidc_discovery." + std::string(key), std::move(what)});
  };
  if (!c.enabled()) {
    if (!c.domains.empty()) {
      add("domains",
          "\"bind_port\" or \"socket_path\" is required in [server.oidc_discovery]: it has nowhere to listen");
    }
    return out;
  }
  if (c.domains.empty() || c.domains.size() > kDomains) {
    add("domains",
        "\"domains\" is required in [server.oidc_discovery]: from 1 to 100 host names that verifiers ask for");
  }
  for (const std::string& domain : c.domains) {
    if (!is_host(domain)) {
      add("domains", quoted(domain) + " in \"domains\" is not a host name: no scheme, port or path belongs there");
    }
  }
  if (c.bind_port != 0 && !c.socket_path.empty()) {
    add("socket_path", "\"bind_port\" and \"socket_path\" exclude each other: keep one");
  }
  const bool files = !c.cert_file_path.empty();
  if (files == c.key_file_path.empty()) {
    add(files ? "cert_file_path" : "key_file_path", "\"cert_file_path\" and \"key_file_path\" belong together");
  }
  if (files && !c.socket_path.empty()) {
    add("cert_file_path", "\"socket_path\" is served as plain HTTP, for a proxy in front that has the certificate");
  }
  if (!files && c.bind_port != 0 && !is_loopback(c.bind_address)) {
    add("bind_address", "\"bind_address\" is " + quoted(c.bind_address) +
                            " without a certificate: name \"cert_file_path\" and \"key_file_path\", or listen on "
                            "127.0.0.1 or a \"socket_path\" for a proxy in front");
  }
  if (!c.server_path_prefix.empty() && (!c.server_path_prefix.starts_with('/') || c.server_path_prefix.ends_with('/') ||
                                        c.server_path_prefix.size() > kUrlBytes || !is_plain(c.server_path_prefix))) {
    add("server_path_prefix", "\"server_path_prefix\" is " + quoted(c.server_path_prefix) +
                                  ": a path such as \"/oidc\" is expected, without a \"/\" at its end");
  }
  if (!c.jwks_uri.empty() && !is_url(c.jwks_uri, c.allow_insecure_scheme)) {
    add("jwks_uri", "\"jwks_uri\" is " + quoted(c.jwks_uri) + ": an address with https:// is expected");
  }
  if (!server.jwt_issuer.empty() && !is_url(server.jwt_issuer, c.allow_insecure_scheme)) {
    out.push_back({"jwt_issuer", "\"jwt_issuer\" is " + quoted(server.jwt_issuer) +
                                     ": with [server.oidc_discovery] it must be an address with https://, to which "
                                     "verifiers append /.well-known/openid-configuration"});
  }
  if (server.disable_jwt_svids) {
    add("domains", "[server.oidc_discovery] has no keys to show where \"disable_jwt_svids\" is true");
  }
  return out;
}

}  // namespace limpet
