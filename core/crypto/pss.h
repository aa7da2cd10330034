// SPDX-License-Identifier: Apache-2.0
#pragma once
// RSASSA-PSS (RFC 8017 section 8.1) with SHA-256 and MGF1-SHA-256 over a digest, as proofs of possession use it: the
// longest salt when signing, any salt when verifying. JWS use it with SHA-384 and SHA-512 too (RFC 7518 section 3.5).
// Pure functions, any thread; both burn CPU: worker.

#include "base/bytes.h"
#include "crypto/key.h"

namespace limpet {

Result<Bytes> sign_pss(const PrivateKey& key, BytesView digest);  // FAILED_PRECONDITION when the key is not RSA
// INVALID_ARGUMENT "signature does not match".
Result<void> verify_pss(const PublicKey& key, BytesView digest, BytesView signature, HashAlg alg = HashAlg::sha256);

}  // namespace limpet
