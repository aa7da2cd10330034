// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a JWT-SVID of this server says (wire notes section 12), as JSON. Pure functions.

#include <string>
#include <string_view>
#include <vector>

#include "crypto/key.h"
#include "spiffe/id.h"

namespace limpet::server {

struct JwtClaims {
  SpiffeId id;
  std::vector<std::string> audience;  // empty strings are left out
  std::string issuer;                 // empty: no `iss`
  std::string token_id;               // empty: no `jti`
  int64_t issued_at = 0;              // Unix seconds
  int64_t expires_at = 0;
};

std::string jwt_header_json(KeyType type, std::string_view key_id);
// `aud` is an array however many there are; there is no `nbf`.
std::string jwt_claims_json(const JwtClaims& claims);

}  // namespace limpet::server
