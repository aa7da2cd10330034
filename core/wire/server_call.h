// SPDX-License-Identifier: Apache-2.0
#pragma once
// One call on an accepted connection: reads the request's headers, opens the flow, moves messages both ways, ends with
// the status. Owned by its ServerConnection; loop thread only.

#include "wire/grpc_frame.h"
#include "wire/server_connection.h"

namespace limpet::wire {

class ServerCallImpl final : public Http2Call, public ServerCall {
 public:
  explicit ServerCallImpl(ServerConnection& connection);
  ~ServerCallImpl() override;

  // ServerCall
  [[nodiscard]] std::string_view method() const override { return path_; }
  [[nodiscard]] const Peer& peer() const override { return connection_.peer(); }
  [[nodiscard]] const Metadata& metadata() const override { return metadata_; }
  [[nodiscard]] int64_t time_left_ms() const override;
  void receive(Done<std::optional<Bytes>> done) override;
  void send(Bytes message, Done<void> done, bool secret) override;
  void finish(Result<void> status) override;

  // Http2Call
  void on_header(std::string_view name, std::string_view value) override;
  void on_headers_done() override;
  void on_data(BytesView bytes) override;
  void on_peer_done() override;
  void on_closed(uint32_t code) override;
  void on_taken() override;
  void deliver() override;

  // Its first message came, or the end of them.
  [[nodiscard]] bool asked() const { return asked_; }

 private:
  struct Refusal {
    const char* http_status;
    Error error;
  };
  [[nodiscard]] std::optional<Refusal> check_headers() const;
  void open();
  void deliver_message();
  void on_deadline();
  void end(const Error* error, const char* http_status);
  void account();
  void tell_over(Code status);

  ServerConnection& connection_;
  std::string path_;
  std::string content_type_;
  std::string verb_;
  std::string encoding_;
  Metadata metadata_;
  FrameReader reader_;
  Timer deadline_;
  int64_t deadline_ms_ = INT64_MAX;  // loop time
  Done<std::optional<Bytes>> receive_done_;
  Done<void> send_done_;
  size_t unread_ = 0;       // bytes not yet given back to the peer's window
  size_t counted_out_ = 0;  // this call's share of the connection's counters
  size_t counted_in_ = 0;
  int64_t opened_ms_ = -1;  // loop time; -1: no service took it, or its end was told
  bool timeout_malformed_ = false;
  size_t header_bytes_ = 0;
  bool headers_done_ = false;
  bool asked_ = false;
  bool opened_ = false;
  bool receiving_ = false;
  bool sending_ = false;
  bool responded_ = false;  // our HEADERS are on their way
  bool finished_ = false;
  bool closed_ = false;
  std::unique_ptr<ServerFlow> flow_;  // last: dies first, so that its Pendings let go of our Dones
};

}  // namespace limpet::wire
