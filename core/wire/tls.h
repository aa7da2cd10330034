// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a TLS endpoint needs to know, for servers and clients alike: whom we are, and whom we accept. TLS 1.2 and 1.3.
// Handshake steps run on worker threads; the verifier is called there, records run on the loop.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "crypto/key.h"

namespace limpet::wire {

class RemoteTurns;  // wire/tls_session.h

// Our certificate and key: a private key in memory, or only the public half of a key registered with crypto/ecdsa.h.
struct TlsIdentity {
  std::vector<Bytes> chain;               // DER, leaf first, no root
  std::shared_ptr<const PrivateKey> key;  // null: `remote_key` is registered with RemoteKey
  std::optional<PublicKey> remote_key;
  // With a remote key: shared by all identities whose keys are in the same place. Null: the endpoint's own.
  std::shared_ptr<RemoteTurns> turns = nullptr;
};

// Decides on the peer's chain, during the handshake, on a worker thread. An immutable snapshot of whatever it needs.
class PeerVerifier {
 public:
  virtual ~PeerVerifier() = default;
  // `chain` is DER, leaf first; empty when the peer gave none. An error ends the connection with an alert.
  [[nodiscard]] virtual Result<void> verify(const std::vector<Bytes>& chain) const = 0;
};

// What is fixed for every handshake of an endpoint.
enum class TlsProtocols {
  h2,    // ALPN h2 and nothing else: gRPC
  http,  // servers: h2 or http/1.1, which is also meant by a client without ALPN; clients: http/1.1
};
struct TlsEndpoint {
  TlsProtocols protocols = TlsProtocols::h2;
  bool ask_certificate = true;  // servers: the client's, without insisting; the verifier decides. False: nobody asks it
  std::string server_name = {};  // clients: SNI; empty: none
};

// Asked once per handshake, on the loop, so that rotation reaches the next handshake.
class TlsPolicy {
 public:
  virtual ~TlsPolicy() = default;
  virtual std::shared_ptr<const TlsIdentity> identity() = 0;  // null: a client without certificate; a server refuses
  virtual std::shared_ptr<const PeerVerifier> verifier() = 0;
};

}  // namespace limpet::wire
