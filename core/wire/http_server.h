// SPDX-License-Identifier: Apache-2.0
#pragma once
// The HTTP server: accepts streams from a listener, runs TLS on them if a policy is given, speaks HTTP/2 where ALPN
// chose it and HTTP/1.1 otherwise, and lets the handler answer GET and HEAD. Everything else gets 405; a request with a
// body gets 413. Bounds on connections, request size and time are base/limits.h's. Clients are not asked for a
// certificate. Owned by whoever listens; loop thread only.
//
//   BundleEndpoint endpoint(...);                             // an HttpHandler
//   HttpServer server(loop, clock, {.tls = &policy}, endpoint);
//   TRY_ASSIGN(listener, listen_tcp(loop, host, port, server));
//
// For https_web the policy is a WebServerTls (wire/web_tls.h); for https_spiffe any policy with the SVID as identity().

#include <memory>

#include "base/clock.h"
#include "loop/stream.h"
#include "wire/http.h"
#include "wire/tls.h"

namespace limpet::wire {

struct HttpServerOptions {
  TlsPolicy* tls = nullptr;             // null: plaintext, HTTP/1.1 only; its verifier() is not used
  size_t max_connections = 0;           // 0: limits::kHttpConnections
  size_t max_connections_per_peer = 0;  // 0: limits::kHttpConnectionsPerPeer
};

// What happened on connections, for logs and metrics; every call may be ignored.
class HttpServerEvents {
 public:
  virtual ~HttpServerEvents() = default;
  virtual void on_connection_refused(const Peer& peer, const Error& why) {}  // bounds, TLS failures, protocol abuse
};

class HttpServer final : public ListenerClient {
 public:
  // All outlive the server.
  HttpServer(Loop& loop, const Clock& clock, HttpServerOptions options, HttpHandler& handler,
             HttpServerEvents* events = nullptr);
  ~HttpServer() override;  // ends every connection at once
  void on_connection(std::unique_ptr<Stream> stream) override;
  // No new requests; `done` when the last answer is written or `grace_ms` passed.
  void stop(int64_t grace_ms, Done<void> done);
  [[nodiscard]] size_t connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace limpet::wire
