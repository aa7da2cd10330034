// SPDX-License-Identifier: Apache-2.0
#pragma once
// AES-256-GCM with a fresh random nonce per blob: what the agent's cache and the server's disk keys are wrapped in.
// Blob: 1 byte version, 12 bytes nonce, ciphertext, 16 bytes tag. Pure functions, any thread.

#include "base/bytes.h"
#include "base/secret.h"

namespace limpet {

// `key` is 32 bytes; `context` is bound to the blob and must be given again to open it.
Result<Bytes> seal(const SecretBytes& key, BytesView context, BytesView plain);
Result<SecretBytes> unseal(const SecretBytes& key, BytesView context, BytesView blob);  // FAILED_PRECONDITION

}  // namespace limpet
