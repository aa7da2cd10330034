// SPDX-License-Identifier: Apache-2.0
#include "wire/server_connection.h"

#include <algorithm>

#include "base/limits.h"
#include "wire/server_call.h"

namespace limpet::wire {
namespace {

constexpr int64_t kNoticeMs = 5'000;  // a client that does not answer PING gets the final GOAWAY anyway
// Per stream: what a client may send ahead of the flow. Per connection: given back at once.
constexpr Http2Session::Windows kWindows{.stream = 65'535, .connection = 1 << 20};

}  // namespace

ServerConnection::ServerConnection(Loop& loop, std::unique_ptr<Stream> stream, Peer peer, int64_t age_ms,
                                   ServerConnectionOwner& owner)
    : Http2Connection(loop, std::move(stream), Http2Session::Side::server, kWindows),
      owner_(owner),
      peer_(std::move(peer)),
      phase_timer_(loop),
      age_ms_(age_ms),
      idle_since_ms_(loop.now_ms()) {
  phase_timer_.start<&ServerConnection::on_phase_over>(limits::kHandshakeMs, this);
  start_reading();
}

ServerConnection::~ServerConnection() = default;

Http2Stream* ServerConnection::on_request(int32_t id) {
  auto call = std::make_unique<ServerCallImpl>(*this);
  return (calls_[id] = std::move(call)).get();
}

void ServerConnection::on_settings() {
  if (phase_ != Phase::preface) return;
  phase_ = Phase::open;
  phase_timer_.stop();
  if (age_ms_ > 0) phase_timer_.start<&ServerConnection::on_phase_over>(age_ms_, this);
}

// The timer of the current phase ran out.
void ServerConnection::on_phase_over() {
  switch (phase_) {
    case Phase::preface:
      owner_.on_abuse(peer_, Error{Code::deadline_exceeded,
                                   "no HTTP/2 preface within " + std::to_string(limits::kHandshakeMs / 1000) + " s"});
      return lose(Error{Code::deadline_exceeded, "no HTTP/2 preface"});
    case Phase::open:
      return drain();
    case Phase::draining:
      return final_goaway();
    case Phase::drained:
      return;
  }
}

void ServerConnection::drain() {
  if (lost() || phase_ == Phase::draining || phase_ == Phase::drained) return;
  if (phase_ == Phase::preface) return final_goaway();
  // First a GOAWAY that names no stream and a PING: what the client sent before it read that is still served.
  phase_ = Phase::draining;
  session().shutdown_notice();
  session().ping();
  phase_timer_.start<&ServerConnection::on_phase_over>(kNoticeMs, this);
  schedule();
}

void ServerConnection::on_ping_answered() {
  if (phase_ == Phase::draining) final_goaway();
}

void ServerConnection::final_goaway() {
  phase_ = Phase::drained;
  phase_timer_.stop();
  session().goaway();
  schedule();
}

void ServerConnection::on_turn_end() {
  if (phase_ != Phase::draining && session().finished()) close_gracefully();
}

bool ServerConnection::busy() const {
  return std::ranges::any_of(calls_, [](const auto& call) { return call.second->asked(); });
}

void ServerConnection::on_protocol_error(const Error& why) { owner_.on_abuse(peer_, why); }

void ServerConnection::on_lost(Error) {
  phase_timer_.stop();
  owner_.on_connection_over(*this);
}

void ServerConnection::remove(ServerCallImpl& call) {
  session().forget_stream(call);
  calls_.erase(call.id);
  if (!calls_.empty()) return;
  idle_since_ms_ = loop().now_ms();
  owner_.on_idle_changed();
}

}  // namespace limpet::wire
