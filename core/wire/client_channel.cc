// SPDX-License-Identifier: Apache-2.0
#include "wire/client_channel.h"

namespace limpet::wire {
namespace {

// Larger than the server's: what a server of ours or of SPIRE sends is trusted with memory, and a satellite link holds
// half a megabyte in flight.
constexpr Http2Session::Windows kWindows{.stream = 1 << 20, .connection = 4 << 20};

constexpr const char* kDraining = "the stream is rejected because server is draining the connection";

}  // namespace

ClientChannel::ClientChannel(Loop& loop, std::unique_ptr<Stream> stream, std::string authority,
                             std::vector<Bytes> peer_chain)
    : Http2Connection(loop, std::move(stream), Http2Session::Side::client, kWindows),
      authority_(std::move(authority)),
      peer_chain_(std::move(peer_chain)),
      open_timer_(loop) {
  start_reading();
}

ClientChannel::~ClientChannel() {
  for (auto& [id, call] : calls_) {
    unlist(*call);
    call->detach();
    call->fail_with(Error{Code::unavailable, "the client connection is closing"});
  }
}

std::unique_ptr<ClientCall> ClientChannel::open(std::string_view method, CallOptions options) {
  const bool refuse = !usable();
  Error why = lost() ? lost_why_ : Error{Code::unavailable, kDraining};
  auto call =
      std::make_unique<ClientCallImpl>(loop(), refuse ? nullptr : this, method, std::move(options), std::move(why));
  if (!refuse && call->id > 0) {
    calls_[call->id] = call.get();
    schedule();
  }
  return call;
}

void ClientChannel::on_settings() {
  settings_seen_ = true;
  open_timer_.start<&ClientChannel::tell_open>(0, this);
}

void ClientChannel::tell_open() {
  Done<void> done = std::move(open_done_);
  if (lost()) {
    done(std::unexpected(lost_why_));
  } else {
    done({});
  }
}

void ClientChannel::on_goaway(int32_t last_stream, uint32_t, BytesView) {
  going_away_ = true;
  // Calls the server never saw; nghttp2 closes their streams with REFUSED_STREAM.
  for (auto& [id, call] : calls_) {
    if (id > last_stream) call->fail_with(Error{Code::unavailable, kDraining});
  }
}

void ClientChannel::on_turn_end() {
  if (going_away_ && session().finished()) lose(Error{Code::unavailable, kDraining});
}

void ClientChannel::on_protocol_error(const Error& why) { lose(Error{Code::unavailable, why.message}); }

void ClientChannel::on_lost(Error why) {
  lost_why_ = std::move(why);
  for (auto& [id, call] : calls_) call->fail_with(lost_why_);
  if (!settings_seen_) open_timer_.start<&ClientChannel::tell_open>(0, this);
}

}  // namespace limpet::wire
