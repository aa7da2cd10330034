// SPDX-License-Identifier: Apache-2.0
#pragma once
// Between PKCS#11's forms of keys and signatures and ours. What a token answers is checked. Pure functions, any thread.

#include "crypto/key.h"

namespace limpet::pkcs11 {

// A label "limpet:<namespace>:key:<id>".
std::string key_label(std::string_view name_space, std::string_view id);
// The id in a label of this namespace; empty: another's.
std::string_view id_in_label(std::string_view name_space, std::string_view label);

// The public key behind CKA_EC_PARAMS and CKA_EC_POINT: the point in an OCTET STRING as the standard says, or bare as
// some tokens have it. INTERNAL.
Result<PublicKey> ec_public_key(BytesView params, BytesView point);
Result<PublicKey> rsa_public_key(BytesView modulus, BytesView exponent);
Result<KeyType> type_of(const PublicKey& key);  // INTERNAL: none that we know

Bytes curve_of(KeyType type);  // for CKA_EC_PARAMS
// What CKM_ECDSA takes: the leftmost bytes that the curve's order has room for.
BytesView shorten_digest(KeyType type, BytesView digest);
Result<Bytes> ecdsa_signature(BytesView raw);      // r and s of equal size -> DER. INTERNAL
Bytes digest_info(HashAlg alg, BytesView digest);  // RFC 8017, appendix B.1: what CKM_RSA_PKCS takes

}  // namespace limpet::pkcs11
