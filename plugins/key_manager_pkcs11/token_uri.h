// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which token is meant: its label alone, or a pkcs11: URI (RFC 7512) with the attributes that name a token, the module
// and a file with the PIN. Pure functions, any thread.

#include <string>
#include <string_view>

#include "base/result.h"

namespace limpet::pkcs11 {

// An empty one matches every token.
struct TokenMatch {
  std::string label;
  std::string serial;
  std::string manufacturer;
  std::string model;
  bool operator==(const TokenMatch&) const = default;
};

struct TokenUri {
  TokenMatch token;
  std::string module_path;  // empty: not said
  std::string pin_file;     // empty: not said
  bool operator==(const TokenUri&) const = default;
};

// INVALID_ARGUMENT names the attribute. `text` without the scheme is a label.
Result<TokenUri> parse_token(std::string_view text);

std::string describe(const TokenMatch& token);  // `token "ca", serial "12"`, for messages

}  // namespace limpet::pkcs11
