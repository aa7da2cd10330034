// SPDX-License-Identifier: Apache-2.0
#pragma once
// The client's connection and its calls. A call belongs to its user and a channel to its own; each tells the other when
// it dies. Made by dial(); loop thread only.

#include <map>
#include <memory>
#include <string>

#include "wire/grpc.h"
#include "wire/http2_connection.h"

namespace limpet::wire {

class ClientCallImpl;

class ClientChannel final : public Channel, public Http2Connection {
 public:
  // `authority` is the :authority of every call.
  ClientChannel(Loop& loop, std::unique_ptr<Stream> stream, std::string authority, std::vector<Bytes> peer_chain);
  ~ClientChannel() override;

  // `done` fires when the server's SETTINGS came, or with the reason why they will not.
  void when_open(Done<void> done) { open_done_ = std::move(done); }

  std::unique_ptr<ClientCall> open(std::string_view method, CallOptions options) override;
  [[nodiscard]] bool usable() const override { return !lost() && !going_away_; }
  [[nodiscard]] const std::vector<Bytes>& peer_chain() const override { return peer_chain_; }

 private:
  friend class ClientCallImpl;
  Http2Stream* on_request(int32_t) override { return nullptr; }  // servers do not open streams
  void on_settings() override;
  void on_goaway(int32_t last_stream, uint32_t code, BytesView debug) override;
  void on_lost(Error why) override;
  void on_turn_end() override;
  void on_protocol_error(const Error& why) override;
  void tell_open();

  std::string authority_;
  std::vector<Bytes> peer_chain_;
  std::map<int32_t, ClientCallImpl*> calls_;
  Done<void> open_done_;
  Timer open_timer_;  // tells open_done_ outside of the session's events
  Error lost_why_;
  bool going_away_ = false;
  bool settings_seen_ = false;
};

class ClientCallImpl final : public Http2Call, public ClientCall {
 public:
  // With a channel that is not usable, or an id that could not be had, the call fails with `refused`.
  ClientCallImpl(Loop& loop, ClientChannel* channel, std::string_view method, CallOptions options, Error refused);
  ~ClientCallImpl() override;

  // ClientCall
  void send(Bytes message, Done<void> done) override;
  void close_send() override;
  void receive(Done<std::optional<Bytes>> done) override;

  // Http2Call
  void on_header(std::string_view name, std::string_view value) override;
  void on_headers_done() override {}
  void on_data(BytesView bytes) override;
  void on_peer_done() override;
  void on_closed(uint32_t code) override;
  void on_taken() override;
  void deliver() override;

  // The channel is gone or gave this call up. An answer that already arrived counts more than `why`.
  void fail_with(Error why);
  void detach() { channel_ = nullptr; }

 private:
  void wake();             // deliver() soon, with or without a channel
  void end(Error status);  // the final status, once
  [[nodiscard]] Error final_status() const;
  void cancel_stream();
  void on_deadline();
  void on_wake() { deliver(); }

  ClientChannel* channel_;  // null: it died, or the stream is closed
  FrameReader reader_;
  Timer deadline_;
  Timer wake_timer_;  // stands in for the channel's turn when there is none
  Done<std::optional<Bytes>> receive_done_;
  Done<void> send_done_;
  std::string http_status_;
  std::string content_type_;
  std::optional<Code> status_;
  Error error_;               // message and details of the status
  std::optional<Error> end_;  // the call ended with this; code ok: success
  size_t unread_ = 0;
  bool receiving_ = false;
  bool sending_ = false;
};

}  // namespace limpet::wire
