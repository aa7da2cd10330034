// SPDX-License-Identifier: Apache-2.0
#pragma once
// Pages of listings whose rows are kept by name (bundles, federation relationships): a page is "the rows after this
// name", and the token is that name in hexadecimal digits. Pure functions.

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "spiffe/id.h"

namespace limpet::server {

inline std::string name_token(const TrustDomain& last) { return hex_encode(as_bytes(last.name())); }

// "" is the start. INVALID_ARGUMENT `could not parse token "x"`.
inline Result<std::string> parse_name_token(std::string_view token) {
  if (token.empty()) return std::string();
  if (const auto bytes = hex_decode(token)) {
    if (TrustDomain::parse(as_text(*bytes))) return std::string(as_text(*bytes));
  }
  return fail(Code::invalid_argument, "could not parse token \"" + std::string(token.substr(0, 64)) + "\"");
}

}  // namespace limpet::server
