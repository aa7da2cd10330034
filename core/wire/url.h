// SPDX-License-Identifier: Apache-2.0
#pragma once
// An absolute http or https URL in its parts (RFC 3986): what a client needs to dial and to ask. A value; pure.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace limpet::wire {

struct Url {
  bool https = true;
  std::string host;  // lower case; an IPv6 address without brackets
  uint16_t port = 443;
  std::string target;  // path and query, at least "/"

  // INVALID_ARGUMENT says what is wrong. User information and fragments are refused.
  static Result<Url> parse(std::string_view text);
  [[nodiscard]] std::string authority() const;  // for the Host field: "example.org", "[::1]:8443"
};

}  // namespace limpet::wire
