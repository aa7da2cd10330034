// SPDX-License-Identifier: Apache-2.0
#pragma once
// gRPC as both sides of the project see it: a peer, a call, and the flow that answers it. Bytes in, bytes out; what a
// method means is the caller's. Loop thread only.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "loop/done.h"
#include "loop/stream.h"

namespace limpet::wire {

using Metadata = std::vector<std::pair<std::string, std::string>>;

// Who is at the other end of a connection.
struct Peer {
  StreamAddress address;
  std::optional<PeerCredentials> credentials;  // Unix sockets
  int pidfd = -1;              // Unix sockets where the kernel has SO_PEERPIDFD or pidfd_open; owned by the connection
  uint64_t process_start = 0;  // /proc/<pid>/stat start time at connect, 0: unknown
  uint64_t executable_device = 0;  // of the file that ran at connect; 0 and 0: not readable
  uint64_t executable_inode = 0;
  std::vector<Bytes> chain;  // TLS: the verified client chain, leaf first; empty: none given
  uint64_t connection = 0;   // a number per connection, for per-connection state
};

// One call as the server side sees it. Owned by the connection; outlives the flow that answers it.
class ServerCall {
 public:
  virtual ~ServerCall() = default;
  [[nodiscard]] virtual std::string_view method() const = 0;  // "/pkg.Service/Method"
  [[nodiscard]] virtual const Peer& peer() const = 0;
  [[nodiscard]] virtual const Metadata& metadata() const = 0;
  // Milliseconds until the client's deadline; INT64_MAX: none.
  [[nodiscard]] virtual int64_t time_left_ms() const = 0;
  // The next message; nullopt: the client closed its half. At most one receive in flight. When the call is
  // cancelled or its deadline passes the flow is destroyed; no error is delivered first.
  virtual void receive(Done<std::optional<Bytes>> done) = 0;
  // Queues a message; `done` fires when there is room for the next. `secret`: zeroed once sent.
  virtual void send(Bytes message, Done<void> done, bool secret = false) = 0;
  // Ends the call with OK or the error (code, message, details trailer). The flow is destroyed at a later turn of the
  // loop.
  virtual void finish(Result<void> status) = 0;
};

// What answers one call: one class per conversation. Made by the method's opener, destroyed by the connection.
class ServerFlow {
 public:
  virtual ~ServerFlow() = default;
  virtual void start() = 0;
};

// A set of methods with one implementation object, registered with a server.
class Service {
 public:
  virtual ~Service() = default;
  // The flow for a call to `call.method()`, or null: UNIMPLEMENTED "unknown method X for service Y" is then answered.
  virtual std::unique_ptr<ServerFlow> open(ServerCall& call) = 0;
};

// ---- client ----
struct CallOptions {
  int64_t timeout_ms = 0;  // 0: none
  Metadata metadata = {};
};

// One call as the client side sees it. Destroying it cancels.
class ClientCall {
 public:
  virtual ~ClientCall() = default;
  virtual void send(Bytes message, Done<void> done) = 0;
  virtual void close_send() = 0;
  // The next message; nullopt: the server ended the call with OK; an error: its status, with details.
  virtual void receive(Done<std::optional<Bytes>> done) = 0;
};

// A connection to a server, opened by dial() in wire/grpc_client.h. Destroying it ends its calls with UNAVAILABLE.
class Channel {
 public:
  virtual ~Channel() = default;
  virtual std::unique_ptr<ClientCall> open(std::string_view method, CallOptions options) = 0;
  // False once the connection failed, was closed or got GOAWAY: dial anew for further calls; calls in flight go on.
  [[nodiscard]] virtual bool usable() const = 0;
  // TLS: the server's verified chain.
  [[nodiscard]] virtual const std::vector<Bytes>& peer_chain() const = 0;
};

}  // namespace limpet::wire
