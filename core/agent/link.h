// SPDX-License-Identifier: Apache-2.0
#pragma once
// The way to the server: one connection with the agent's SVID, kept open, dialled anew with a growing pause after each
// failure, for ever. A connection that got GOAWAY or carries an old SVID is left to the calls in flight on it. Owned by
// the Agent; loop thread only.

#include <memory>
#include <string>
#include <vector>

#include "agent/server_trust.h"
#include "loop/backoff.h"
#include "loop/loop.h"
#include "report/health.h"
#include "report/log.h"
#include "wire/grpc.h"

namespace limpet::agent {

inline constexpr int64_t kRpcTimeoutMs = 30'000;  // each unary call, as SPIRE's agent has it
inline constexpr int64_t kDialTimeoutMs = 20'000;

// Opens connections to the one server; the seam for tests.
class Dialer {
 public:
  virtual ~Dialer() = default;
  virtual void dial(wire::TlsPolicy& policy, Done<std::unique_ptr<wire::Channel>> done) = 0;
};

// Shared by the Link and by each flow with a call in flight on it.
using SharedChannel = std::shared_ptr<wire::Channel>;

class LinkClient {
 public:
  virtual ~LinkClient() = default;
  virtual void on_link_up() = 0;  // a connection stands, after there was none
  virtual void on_dial_failed(const Error& why) {}
  virtual void on_key_lost(const Error& why) {}  // its manager cannot sign with the agent's key any more
};

class Link {
 public:
  Link(Loop& loop, Dialer& dialer, ServerTrust& trust, Health& health, Logger& log, LinkClient& client);

  // Begins to dial, or dials anew because there is a new SVID.
  void refresh();
  // The connection, as soon as there is one. UNAVAILABLE at once while pausing after a failure, with its reason.
  void acquire(Done<SharedChannel> done);
  // A call on this connection failed as a whole: if it is the current one, it is dropped and dialled anew.
  void failed(const wire::Channel* channel, const Error& why);
  [[nodiscard]] bool up() const { return channel_ != nullptr && channel_->usable(); }

 private:
  void dial();
  void on_dialled(Result<std::unique_ptr<wire::Channel>> channel);
  void on_pause_over();
  void answer_waiters();

  Loop& loop_;
  Dialer& dialer_;
  ServerTrust& trust_;
  Health& health_;
  Logger& log_;
  LinkClient& client_;
  SharedChannel channel_;
  std::vector<Done<SharedChannel>> waiters_;
  Error last_error_{Code::unavailable, "not connected yet"};
  Backoff backoff_{1'000, 30'000};
  enum class Seen { nothing, up, down } seen_ = Seen::nothing;
  bool stale_dial_ = false;  // the SVID changed while dialling
  bool key_failed_ = false;  // as health has it
  Pending<std::unique_ptr<wire::Channel>> dialled_;
  Timer pause_;
};

}  // namespace limpet::agent
