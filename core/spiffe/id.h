// SPDX-License-Identifier: Apache-2.0
#pragma once
// Trust domains and SPIFFE IDs by the grammar of the SPIFFE-ID standard (limits in base/limits.h). Pure values.
// The error texts are go-spiffe's, because SPIRE's commands print them.

#include <compare>
#include <string>
#include <string_view>

#include "base/result.h"

namespace limpet {

class TrustDomain {
 public:
  TrustDomain() = default;
  // "example.org" or "spiffe://example.org" (a path is an error). INVALID_ARGUMENT.
  static Result<TrustDomain> parse(std::string_view text);
  [[nodiscard]] const std::string& name() const { return name_; }       // "example.org"
  [[nodiscard]] std::string id() const { return "spiffe://" + name_; }  // "spiffe://example.org"
  [[nodiscard]] bool empty() const { return name_.empty(); }
  auto operator<=>(const TrustDomain&) const = default;

 private:
  std::string name_;
};

class SpiffeId {
 public:
  SpiffeId() = default;
  // "spiffe://example.org/web". INVALID_ARGUMENT: "scheme is missing or invalid", "trust domain is missing",
  // "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores",
  // "path cannot contain empty segments", "path cannot have a trailing slash", "path cannot contain dot segments",
  // "path segment characters are limited to letters, numbers, dots, dashes, and underscores", "cannot be empty".
  static Result<SpiffeId> parse(std::string_view text);
  // `path` is empty or starts with '/'.
  static Result<SpiffeId> make(const TrustDomain& trust_domain, std::string_view path);
  [[nodiscard]] const TrustDomain& trust_domain() const { return trust_domain_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string text() const { return trust_domain_.empty() ? "" : trust_domain_.id() + path_; }
  [[nodiscard]] bool empty() const { return trust_domain_.empty(); }
  [[nodiscard]] bool member_of(const TrustDomain& td) const { return trust_domain_ == td; }
  auto operator<=>(const SpiffeId&) const = default;

 private:
  TrustDomain trust_domain_;
  std::string path_;
};

Result<void> check_path(std::string_view path);  // "" or "/a/b"
inline constexpr std::string_view kServerPath = "/spire/server";
inline constexpr std::string_view kAgentPrefix = "/spire/agent/";

}  // namespace limpet
