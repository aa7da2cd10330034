// SPDX-License-Identifier: Apache-2.0
#include "spiffe/id.h"

#include "base/limits.h"

namespace limpet {

namespace {

constexpr std::string_view kScheme = "spiffe://";

std::unexpected<Error> invalid(std::string_view message) { return fail(Code::invalid_argument, std::string(message)); }

bool is_trust_domain_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}
bool is_path_char(char c) { return is_trust_domain_char(c) || (c >= 'A' && c <= 'Z'); }

Result<void> check_trust_domain(std::string_view name) {
  if (name.empty()) return invalid("trust domain is missing");
  for (char c : name)
    if (!is_trust_domain_char(c))
      return invalid(
          "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores");
  if (name.size() > limits::kTrustDomainBytes) return invalid("trust domain is longer than 255 bytes");
  return {};
}

}  // namespace

Result<void> check_path(std::string_view path) {
  if (path.empty()) return {};
  if (path[0] != '/') return invalid("path must have a leading slash");
  for (size_t at = 0; at < path.size();) {
    const size_t start = at + 1;
    size_t end = path.find('/', start);
    const bool last = end == std::string_view::npos;
    if (last) end = path.size();
    const std::string_view segment = path.substr(start, end - start);
    for (char c : segment)
      if (!is_path_char(c))
        return invalid("path segment characters are limited to letters, numbers, dots, dashes, and underscores");
    if (segment.empty())
      return invalid(last ? "path cannot have a trailing slash" : "path cannot contain empty segments");
    if (segment == "." || segment == "..") return invalid("path cannot contain dot segments");
    at = end;
  }
  return {};
}

Result<TrustDomain> TrustDomain::parse(std::string_view text) {
  if (text.find(":/") != std::string_view::npos) {
    // It looks like an ID: read it as one, so that "spiffe:/x" gets the better explanation.
    TRY_ASSIGN(const SpiffeId id, SpiffeId::parse(text));
    if (!id.path().empty()) return invalid("trust domain must not have a path");
    return id.trust_domain();
  }
  TRY(check_trust_domain(text));
  TrustDomain out;
  out.name_ = text;
  return out;
}

Result<SpiffeId> SpiffeId::parse(std::string_view text) {
  if (text.empty()) return invalid("cannot be empty");
  if (text.size() > limits::kSpiffeIdBytes) return invalid("SPIFFE ID is longer than 2048 bytes");
  if (!text.starts_with(kScheme)) return invalid("scheme is missing or invalid");
  const std::string_view rest = text.substr(kScheme.size());
  const size_t slash = std::min(rest.find('/'), rest.size());
  TRY(check_trust_domain(rest.substr(0, slash)));
  TRY_ASSIGN(const TrustDomain trust_domain, TrustDomain::parse(rest.substr(0, slash)));
  return make(trust_domain, rest.substr(slash));
}

Result<SpiffeId> SpiffeId::make(const TrustDomain& trust_domain, std::string_view path) {
  if (trust_domain.empty()) return invalid("trust domain is missing");
  TRY(check_path(path));
  if (trust_domain.id().size() + path.size() > limits::kSpiffeIdBytes)
    return invalid("SPIFFE ID is longer than 2048 bytes");
  SpiffeId out;
  out.trust_domain_ = trust_domain;
  out.path_ = path;
  return out;
}

}  // namespace limpet
