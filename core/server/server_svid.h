// SPDX-License-Identifier: Apache-2.0
#pragma once
// The server's own X509-SVID (spiffe://<td>/spire/server): made before the TCP port opens, checked every 5 s, renewed
// at half of its life, its key in memory only. Owned by Server; loop thread.

#include <memory>

#include "base/clock.h"
#include "loop/loop.h"
#include "report/health.h"
#include "report/log.h"
#include "report/metrics.h"
#include "server/ca.h"
#include "wire/tls.h"

namespace limpet::server {

class ServerSvid {
 public:
  ServerSvid(Loop& loop, const Clock& clock, Logger& logger, Health& health, X509Ca& ca, TrustDomain trust_domain,
             int64_t ttl, Metrics& metrics = Metrics::none());
  ServerSvid(const ServerSvid&) = delete;
  ServerSvid& operator=(const ServerSvid&) = delete;

  // Makes the first SVID, then keeps it fresh. After an error it may be called again.
  void start(Done<void> done);
  // Null before start() answered.
  [[nodiscard]] std::shared_ptr<const wire::TlsIdentity> identity() const { return identity_; }
  void set_ttl(int64_t ttl) { ttl_ = ttl; }  // seconds; from the next one on
  // Makes a new SVID at once when the present one hangs under this authority (hex of its subject key id).
  void renew_if_issued_by(std::string_view authority_id);
  [[nodiscard]] const Certificate* certificate() const { return identity_ ? &certificate_ : nullptr; }

 private:
  void on_tick();
  void renew();
  void on_key(Result<std::shared_ptr<const PrivateKey>> key);
  void on_signed(Result<SignedSvid> svid);
  void end(Result<void> result);

  Loop& loop_;
  const Clock& clock_;
  Logger& logger_;
  Health& health_;
  X509Ca& ca_;
  SpiffeId id_;
  int64_t ttl_;
  Metrics& metrics_;
  int64_t renew_ms_ = 0;  // loop time
  Timer tick_;
  std::shared_ptr<const PrivateKey> new_key_;
  // The snapshot of the handshakes in flight and of this object: a renewal replaces it for the next handshake.
  std::shared_ptr<const wire::TlsIdentity> identity_;
  Certificate certificate_;
  Pending<std::shared_ptr<const PrivateKey>> key_made_;
  Pending<SignedSvid> signed_;
  Done<void> started_;
};

}  // namespace limpet::server
