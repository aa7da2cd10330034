// SPDX-License-Identifier: Apache-2.0
#pragma once
// One connection of the load client: gRPC over nghttp2 on a non-blocking Unix socket, one call at a time. Nothing of
// the product's own transport is in it, so that what is measured is the server's side only. Owned by the one who drives
// it; one thread; a failure that would spoil a measurement ends the program with its reason.

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace limpet::bench {

[[noreturn]] void die(const std::string& why);
int64_t now_ns();

struct Method {
  std::string path;              // "/pkg.Service/Method"
  bool security_header = false;  // workload.spiffe.io: true
  bool streaming = false;        // the first message is the answer; the stream is then cancelled
};

class H2Client {
 public:
  // Told when a call has its answer: the first message, empty when the call failed with `status`.
  using Answered = std::function<void(H2Client& client, int status, const std::string& message)>;

  H2Client(std::string socket, const Method& method, Answered answered);
  ~H2Client();
  H2Client(const H2Client&) = delete;
  H2Client& operator=(const H2Client&) = delete;

  bool connect();  // false: nobody listens there yet
  void disconnect();
  void call(const std::string& message);
  void keep_stream() { keep_stream_ = true; }  // the stream is not cancelled: later messages are answers too
  void on_readable();
  void flush();
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] int64_t started_ns() const { return started_ns_; }
  void start_at(int64_t ns) { started_ns_ = ns; }
  [[nodiscard]] bool lost() const { return lost_; }

 private:
  friend struct Callbacks;
  void on_bytes(const uint8_t* data, size_t size);
  void on_stream_over();
  void deliver();

  std::string socket_;
  const Method& method_;
  Answered answered_;
  nghttp2_session* session_ = nullptr;
  int fd_ = -1;
  int32_t stream_ = 0;
  std::string request_;  // framed
  size_t request_at_ = 0;
  std::string buffer_;  // received and not yet a whole message
  std::string message_;
  int status_ = -1;
  bool ready_ = false;  // an answer waits to be delivered, outside of nghttp2's callbacks
  bool keep_stream_ = false;
  bool lost_ = false;
  int64_t started_ns_ = 0;
};

}  // namespace limpet::bench
