// SPDX-License-Identifier: Apache-2.0
#pragma once
// The members of a JSON Web Key (RFC 7517, RFC 7518 section 6) to and from a public key. Pure functions, any thread.

#include <string>

#include "base/bytes.h"
#include "crypto/key.h"

namespace limpet {

struct JwkMembers {
  std::string kty;  // "EC" or "RSA"
  std::string crv;  // EC: "P-256" or "P-384"
  std::string x;    // base64url without padding, all four
  std::string y;
  std::string n;
  std::string e;
};

JwkMembers jwk_members(const PublicKey& key);
// INVALID_ARGUMENT for a wrong curve, length or encoding; UNIMPLEMENTED for a key type or curve that we do not have.
Result<PublicKey> public_key_from_jwk(const JwkMembers& members);

}  // namespace limpet
