// SPDX-License-Identifier: Apache-2.0
#pragma once
// A JWT-SVID as somebody shows it (the JWT-SVID standard; RFC 7515 and 7519): taken apart under bounds, its signature
// checked against the key that its trust domain publishes, its claims against an audience and the time. The texts are
// SPIRE's where they are known. Pure functions, any thread; verify_jwt_signature burns CPU: worker.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "crypto/key.h"
#include "spiffe/id.h"

namespace limpet {

inline constexpr int64_t kJwtLeewayS = 60;

struct JwtSvidToken {
  std::string algorithm;  // "ES256", ...
  std::string key_id;
  SpiffeId id;  // the claim `sub`
  std::vector<std::string> audience;
  int64_t expires_at = 0;  // Unix seconds, as are the next two
  int64_t issued_at = 0;   // 0: absent
  int64_t not_before = 0;  // 0: absent
  std::string claims_json;
  std::string signing_input;
  Bytes signature;
};

// INVALID_ARGUMENT with the reason: more than limits::kJwtBytes, not three parts of canonical base64url, no JSON
// objects, a member that stands twice in one object, an algorithm other than ES, RS or PS with 256, 384 or 512 (`none`
// and HMAC above all), an unknown `crit` or `typ`, no `kid`, a `sub` that is no SPIFFE ID, no `exp`, an `aud` of
// another shape.
Result<JwtSvidToken> parse_jwt_svid(std::string_view token);
// INVALID_ARGUMENT: the signature does not match, or the key is not of the algorithm's kind.
Result<void> verify_jwt_signature(const JwtSvidToken& token, const PublicKey& key);
// INVALID_ARGUMENT: none of its audiences is `audience`, expired, not valid yet; with a leeway of one minute.
Result<void> check_jwt_claims(const JwtSvidToken& token, std::string_view audience, int64_t now);

}  // namespace limpet
