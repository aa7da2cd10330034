// SPDX-License-Identifier: Apache-2.0
#include "spiffe/bundle_url.h"

#include <algorithm>
#include <string>

namespace limpet {
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

}  // namespace limpet
