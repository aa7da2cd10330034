// SPDX-License-Identifier: Apache-2.0
#pragma once
// The ECDSA seam: every P-256 generate, sign and verify of the project, TLS inside mbedTLS included, passes here. By
// default mbedTLS does the arithmetic; a key registered by its public point is signed by its key manager instead.
// mbedTLS's two functions mbedtls_ecdsa_write_signature and mbedtls_ecdsa_read_signature are wrapped at link time.

#include <functional>
#include <memory>

#include "base/bytes.h"
#include "crypto/key.h"

namespace limpet {

// Signs a digest synchronously; called on worker threads only (a TLS handshake step), where waiting is allowed.
class BlockingSigner {
 public:
  virtual ~BlockingSigner() = default;
  virtual Result<Bytes> sign(HashAlg alg, BytesView digest) const = 0;  // [any thread]
};

// While this object lives, signatures by the key with this public key come from `signer`. Any thread.
class RemoteKey {
 public:
  RemoteKey(const PublicKey& key, std::shared_ptr<const BlockingSigner> signer);
  ~RemoteKey();
  RemoteKey(const RemoteKey&) = delete;
  RemoteKey& operator=(const RemoteKey&) = delete;

 private:
  Bytes point_;
};

}  // namespace limpet
