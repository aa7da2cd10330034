// SPDX-License-Identifier: Apache-2.0
#pragma once
// The gRPC server: accepts streams from a listener, runs TLS (TCP) and HTTP/2 on them, finds the service by the
// method's prefix and lets the flow it opens answer. Bounds per connection and per listener are base/limits.h's. Owned
// by the role (server or agent) that listens; loop thread only.

#include <map>
#include <memory>
#include <string>

#include "loop/stream.h"
#include "wire/grpc.h"
#include "wire/tls.h"

namespace limpet::wire {

struct GrpcServerOptions {
  TlsPolicy* tls = nullptr;       // null: plaintext (Unix sockets)
  int64_t connection_age_ms = 0;  // 0: for ever; else GOAWAY after it (+-10 %), streams in flight go on
  size_t max_connections = 0;     // 0: limits::kConnections
  size_t max_connections_per_peer = 0;
};

// What happened on connections, for logs and metrics; every call may be ignored.
class GrpcServerEvents {
 public:
  virtual ~GrpcServerEvents() = default;
  virtual void on_connection_refused(const Peer& peer, const Error& why) {}  // bounds, TLS failures, protocol abuse
  virtual void on_call_begun(std::string_view method, const Peer& peer) {}   // a service took it
  // The end of such a call: its status, or CANCELLED where the client or the connection went away first.
  virtual void on_call_over(std::string_view method, const Peer& peer, Code status, int64_t elapsed_ms) {}
};

class GrpcServer final : public ListenerClient {
 public:
  GrpcServer(Loop& loop, GrpcServerOptions options, GrpcServerEvents* events = nullptr);
  ~GrpcServer() override;  // ends every connection at once
  // `name` is "pkg.Service"; the service outlives this server.
  void add(std::string name, Service& service);
  void on_connection(std::unique_ptr<Stream> stream) override;
  // GOAWAY on every connection, then `done` when the last call ended or `grace_ms` passed.
  void stop(int64_t grace_ms, Done<void> done);
  // A changed bundle or identity: connections keep what they have; new handshakes ask the policy anyway.
  [[nodiscard]] size_t connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace limpet::wire
