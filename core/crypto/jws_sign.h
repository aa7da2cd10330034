// SPDX-License-Identifier: Apache-2.0
#pragma once
// Making a JSON Web Signature (RFC 7515) in its compact form, for the keys that sign JWT-SVIDs. Pure functions, any
// thread; the signature itself is made by whoever holds the key.

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "crypto/key.h"

namespace limpet {

// "ES256", "ES384", or "RS256" for RSA of any size (RFC 7518 section 3.1).
std::string_view jws_algorithm(KeyType type);
// What is signed, and what the token begins with: both parts in base64url.
std::string jws_signing_input(std::string_view header_json, std::string_view payload_json);
// The token. `signature` is a key manager's: ASN.1 for ECDSA, which a JWS carries as r and s of the curve's length
// (RFC 7518 section 3.4). INVALID_ARGUMENT when it is malformed.
Result<std::string> jws_seal(std::string signing_input, KeyType type, BytesView signature);

}  // namespace limpet
