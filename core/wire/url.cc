// SPDX-License-Identifier: Apache-2.0
#include "wire/url.h"

#include <algorithm>
#include <charconv>

#include "base/limits.h"

namespace limpet::wire {
namespace {

constexpr uint16_t kHttpPort = 80;
constexpr uint16_t kHttpsPort = 443;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// A name or an IPv4 address. Underscores are not in RFC 1123, but names with them are in use.
bool is_host(std::string_view host) {
  constexpr size_t kNameBytes = 253;
  return !host.empty() && host.size() <= kNameBytes && host.front() != '.' && host.front() != '-' &&
         std::ranges::all_of(
             host, [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || c == '-' || c == '.' || c == '_'; });
}

bool is_ipv6(std::string_view host) {
  return host.find(':') != std::string_view::npos &&
         std::ranges::all_of(host, [](char c) { return is_hex(c) || c == ':' || c == '.'; });
}

Result<uint16_t> parse_port(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0) {
    return fail(Code::invalid_argument, "its port is not a number between 1 and 65535");
  }
  return port;
}

Result<Url> parse_parts(std::string_view text) {
  Url url;
  if (text.size() > limits::kUrlBytes) {
    return fail(Code::invalid_argument, "it is longer than " + std::to_string(limits::kUrlBytes) + " bytes");
  }
  if (!std::ranges::all_of(
          text, [](char c) { return c > ' ' && c < 0x7f && c != '"' && c != '<' && c != '>' && c != '\\'; })) {
    return fail(Code::invalid_argument, "it has characters that must be percent-encoded");
  }
  const size_t colon = text.find("://");
  std::string scheme(colon == std::string_view::npos ? std::string_view() : text.substr(0, colon));
  std::ranges::transform(scheme, scheme.begin(), lower);
  if (scheme != "https" && scheme != "http") return fail(Code::invalid_argument, "it must start with https://");
  url.https = scheme == "https";
  text.remove_prefix(scheme.size() + 3);

  const std::string_view authority = text.substr(0, text.find_first_of("/?#"));
  text.remove_prefix(authority.size());
  if (authority.find('@') != std::string_view::npos)
    return fail(Code::invalid_argument, "user information is not taken");
  if (text.find('#') != std::string_view::npos) return fail(Code::invalid_argument, "a fragment is not taken");
  url.target = text.starts_with('/') ? std::string(text) : '/' + std::string(text);

  const bool bracketed = authority.starts_with('[');
  const size_t host_end = bracketed ? authority.find(']') : authority.find(':');
  if (bracketed && host_end == std::string_view::npos) return fail(Code::invalid_argument, "its host lacks a \"]\"");
  url.host = bracketed ? authority.substr(1, host_end - 1) : authority.substr(0, host_end);
  std::ranges::transform(url.host, url.host.begin(), lower);
  if (bracketed ? !is_ipv6(url.host) : !is_host(url.host)) return fail(Code::invalid_argument, "its host is not valid");
  std::string_view rest = authority.substr(std::min(authority.size(), host_end + (bracketed ? 1 : 0)));
  if (host_end == std::string_view::npos) rest = {};
  url.port = url.https ? kHttpsPort : kHttpPort;
  if (rest.empty()) return url;
  if (!rest.starts_with(':')) return fail(Code::invalid_argument, "its host is not valid");
  TRY_ASSIGN(url.port, parse_port(rest.substr(1)));
  return url;
}

}  // namespace

Result<Url> Url::parse(std::string_view text) {
  auto url = parse_parts(text);
  if (url) return url;
  return fail(Code::invalid_argument,
              "URL \"" + std::string(text.substr(0, 200)) + "\" is not valid: " + url.error().message);
}

std::string Url::authority() const {
  const std::string shown = host.find(':') == std::string::npos ? host : '[' + host + ']';
  return port == (https ? kHttpsPort : kHttpPort) ? shown : shown + ':' + std::to_string(port);
}

}  // namespace limpet::wire
