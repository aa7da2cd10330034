// SPDX-License-Identifier: Apache-2.0
#pragma once
// One accepted connection: its phases (preface, open, drain) and the calls on it. Made by GrpcServer once TLS, if any,
// is through; tells its owner when it is over and is destroyed by him at a later turn. Loop thread only.

#include <map>
#include <memory>

#include "wire/grpc.h"
#include "wire/http2_connection.h"

namespace limpet::wire {

class ServerConnection;

// What a connection asks of its server.
class ServerConnectionOwner {
 public:
  virtual ~ServerConnectionOwner() = default;
  // The flow for a call, or the error that answers it.
  virtual Result<std::unique_ptr<ServerFlow>> open_flow(ServerCall& call) = 0;
  // A call that open_flow() took begins, and has its status.
  virtual void on_call_begun(const ServerCall& call) = 0;
  virtual void on_call_over(const ServerCall& call, Code status, int64_t elapsed_ms) = 0;
  virtual void on_connection_over(ServerConnection& connection) = 0;  // destroy it later, not from inside
  virtual void on_abuse(const Peer& peer, const Error& why) = 0;
  virtual void on_idle_changed() = 0;  // the last call ended
  // Bytes received on all connections and not yet taken by a flow, changed by `delta` (which wraps when it is less).
  virtual void on_held_in(size_t delta) = 0;
  [[nodiscard]] virtual size_t held_in() const = 0;
};

class ServerCallImpl;

class ServerConnection final : public Http2Connection {
 public:
  ServerConnection(Loop& loop, std::unique_ptr<Stream> stream, Peer peer, int64_t age_ms, ServerConnectionOwner& owner);
  ~ServerConnection() override;

  void drain();  // GOAWAY; calls in flight go on; then over
  [[nodiscard]] const Peer& peer() const { return peer_; }
  [[nodiscard]] size_t calls() const { return calls_.size(); }
  // It has a call whose request came: one without only holds its place.
  [[nodiscard]] bool busy() const;
  // Since when no call is open, in loop time.
  [[nodiscard]] int64_t idle_since_ms() const { return idle_since_ms_; }

 private:
  friend class ServerCallImpl;
  enum class Phase { preface, open, draining, drained };

  Http2Stream* on_request(int32_t id) override;
  void on_settings() override;
  void on_goaway(int32_t, uint32_t, BytesView) override {}
  void on_ping_answered() override;
  void on_lost(Error why) override;
  void on_turn_end() override;
  void on_protocol_error(const Error& why) override;
  void on_phase_over();
  void final_goaway();
  void remove(ServerCallImpl& call);
  void held_in(size_t delta) {
    buffered_bytes_ += delta;
    owner_.on_held_in(delta);
  }

  ServerConnectionOwner& owner_;
  Peer peer_;
  Timer phase_timer_;
  Phase phase_ = Phase::preface;
  int64_t age_ms_;
  int64_t idle_since_ms_;
  size_t queued_bytes_ = 0;    // in the calls' outboxes
  size_t buffered_bytes_ = 0;  // received and not yet taken by a flow
  std::map<int32_t, std::unique_ptr<ServerCallImpl>> calls_;
};

}  // namespace limpet::wire
