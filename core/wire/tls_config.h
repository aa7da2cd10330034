// SPDX-License-Identifier: Apache-2.0
#pragma once
// The mbedTLS halves that TLS connections are made of. TlsConfig: an endpoint's identity and rules, immutable once
// made, read by any thread. TlsCore: one connection's state with its memory buffers; moves between the loop and a
// worker job, used by one of them at a time.

#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>

#include <memory>
#include <optional>

#include "crypto/mbed.h"
#include "wire/tls.h"

namespace limpet::wire {

using MbedSslConfig = Mbed<mbedtls_ssl_config, mbedtls_ssl_config_init, mbedtls_ssl_config_free>;
using MbedSsl = Mbed<mbedtls_ssl_context, mbedtls_ssl_init, mbedtls_ssl_free>;
using MbedCrt = Mbed<mbedtls_x509_crt, mbedtls_x509_crt_init, mbedtls_x509_crt_free>;

enum class TlsSide { server, client };

class TlsConfig {
 public:
  // INTERNAL with the reason when the identity does not fit mbedTLS. `identity` may be null for clients.
  static Result<std::shared_ptr<const TlsConfig>> make(TlsSide side, std::shared_ptr<const TlsIdentity> identity,
                                                       const TlsEndpoint& endpoint = {});
  [[nodiscard]] const mbedtls_ssl_config* get() const { return config_.get(); }
  [[nodiscard]] const TlsIdentity* identity() const { return identity_.get(); }
  [[nodiscard]] const TlsEndpoint& endpoint() const { return endpoint_; }

 private:
  TlsConfig() = default;
  Result<void> set_identity();
  MbedSslConfig config_;
  MbedPk key_;
  MbedCrt chain_;
  std::shared_ptr<const TlsIdentity> identity_;  // shared with the policy that handed it out
  TlsEndpoint endpoint_;
};

class TlsCore {
 public:
  // The configuration is shared by the endpoint's cache and every connection made with it.
  static Result<std::unique_ptr<TlsCore>> make(TlsSide side, std::shared_ptr<const TlsConfig> config,
                                               std::shared_ptr<const PeerVerifier> verifier);

  // Runs the handshake as far as the input reaches. True: done, and the peer is verified. False: more input is needed.
  // An error leaves an alert in `out`. Burns CPU: worker.
  Result<bool> handshake();

  // ---- after the handshake, on the loop ----
  [[nodiscard]] bool http2() const;  // ALPN chose h2
  // Up to `size` bytes of plaintext; 0: more input is needed; nullopt: the peer said close_notify.
  Result<std::optional<size_t>> read(uint8_t* to, size_t size);
  Result<void> write(BytesView plain);
  void close_notify();

  Bytes in;  // ciphertext from the peer; consumed from in_start
  size_t in_start = 0;
  Bytes out;                 // ciphertext for the peer
  std::vector<Bytes> chain;  // the peer's, once seen

 private:
  TlsCore() = default;
  static int bio_send(void* self, const unsigned char* data, size_t size);
  static int bio_receive(void* self, unsigned char* data, size_t size);
  static int on_certificate(void* self, mbedtls_x509_crt* certificate, int depth, uint32_t* flags);
  Result<bool> refuse(unsigned char alert, Error why);
  Result<bool> on_established();
  [[nodiscard]] Error describe(int code);

  std::shared_ptr<const TlsConfig> config_;
  std::shared_ptr<const PeerVerifier> verifier_;
  MbedSsl ssl_;
  TlsSide side_ = TlsSide::server;
  bool verified_ = false;
  std::optional<Error> objection_;  // the verifier's
};

}  // namespace limpet::wire
