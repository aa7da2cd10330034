// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keys of the host's key manager for a BLOCKING plugin (limpet.keys/1). On the plugin's thread.

#include <string>

#include "crypto/key.h"
#include "kit/host_wait.h"

namespace limpet::kit {

// FAILED_PRECONDITION: this host has no such service.
Result<PublicKey> find_host_key(HostWait& host, const std::string& id);
// As proofs of possession want it: ECDSA in ASN.1, or RSA-PSS with a salt of 32 bytes, over a SHA-256.
Result<Bytes> prove_with_host_key(HostWait& host, const std::string& id, const PublicKey& key, BytesView digest);

}  // namespace limpet::kit
