// SPDX-License-Identifier: Apache-2.0
#include "h2_client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

namespace limpet::bench {

void die(const std::string& why) {
  std::fprintf(stderr, "load: %s\n", why.c_str());
  std::exit(1);
}

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

struct Callbacks {
  static H2Client& self(void* user) { return *static_cast<H2Client*>(user); }

  static ssize_t on_read_request(nghttp2_session*, int32_t, uint8_t* out, size_t room, uint32_t* flags,
                                 nghttp2_data_source* source, void*) {
    auto& me = self(source->ptr);
    const size_t now = std::min(room, me.request_.size() - me.request_at_);
    std::memcpy(out, me.request_.data() + me.request_at_, now);
    me.request_at_ += now;
    if (me.request_at_ == me.request_.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(now);
  }
  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void* user) {
    auto& me = self(user);
    if (frame->hd.stream_id != me.stream_) return 0;
    if (std::string_view(reinterpret_cast<const char*>(name), name_size) != "grpc-status") return 0;
    me.status_ = std::atoi(std::string(reinterpret_cast<const char*>(value), value_size).c_str());
    return 0;
  }
  static int on_data(nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user) {
    auto& me = self(user);
    if (id == me.stream_) me.on_bytes(data, size);
    return 0;
  }
  static int on_close(nghttp2_session*, int32_t id, uint32_t, void* user) {
    auto& me = self(user);
    if (id == me.stream_) me.on_stream_over();
    return 0;
  }
  static nghttp2_session_callbacks* make() {
    nghttp2_session_callbacks* out = nullptr;
    nghttp2_session_callbacks_new(&out);
    nghttp2_session_callbacks_set_on_header_callback(out, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(out, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(out, on_close);
    return out;
  }
};

H2Client::H2Client(std::string socket, const Method& method, Answered answered)
    : socket_(std::move(socket)), method_(method), answered_(std::move(answered)) {}

H2Client::~H2Client() { disconnect(); }

bool H2Client::connect() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_.size() >= sizeof address.sun_path) die("socket path is too long: " + socket_);
  std::memcpy(address.sun_path, socket_.c_str(), socket_.size() + 1);
  fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd_ < 0) die("socket: " + std::string(std::strerror(errno)));
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ::close(std::exchange(fd_, -1));
    return false;
  }
  static nghttp2_session_callbacks* callbacks = Callbacks::make();
  nghttp2_session_client_new(&session_, callbacks, this);
  // as grpc-go opens: no push, larger windows
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                             {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 4 << 20}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, 2);
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, 16 << 20);
  lost_ = false;
  return true;
}

void H2Client::disconnect() {
  nghttp2_session_del(std::exchange(session_, nullptr));
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  stream_ = 0;
}

void H2Client::call(const std::string& message) {
  request_.assign(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8) request_ += static_cast<char>(message.size() >> shift & 0xff);
  request_ += message;
  request_at_ = 0;
  buffer_.clear();
  message_.clear();
  status_ = -1;
  const auto field = [](std::string_view name, std::string_view value) {
    const auto bytes = [](std::string_view text) {
      return const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));  // nghttp2 does not write there
    };
    return nghttp2_nv{bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
  };
  nghttp2_nv fields[] = {field(":method", "POST"),
                         field(":scheme", "http"),
                         field(":path", method_.path),
                         field(":authority", "localhost"),
                         field("content-type", "application/grpc"),
                         field("te", "trailers"),
                         field("user-agent", "limpet-load"),
                         field("workload.spiffe.io", "true")};
  nghttp2_data_provider body{};
  body.source.ptr = this;
  body.read_callback = Callbacks::on_read_request;
  started_ns_ = now_ns();
  const size_t count = std::size(fields) - (method_.security_header ? 0 : 1);
  stream_ = nghttp2_submit_request(session_, nullptr, fields, count, &body, nullptr);
  if (stream_ < 0) die(std::string("submit: ") + nghttp2_strerror(stream_));
  flush();
}

void H2Client::flush() {
  const uint8_t* data = nullptr;
  for (ssize_t size = nghttp2_session_mem_send(session_, &data); size > 0;
       size = nghttp2_session_mem_send(session_, &data)) {
    for (ssize_t at = 0; at < size;) {  // blocking: what we send is small, or the server must take it anyway
      const ssize_t sent = ::send(fd_, data + at, static_cast<size_t>(size - at), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) {
        lost_ = true;
        return;
      }
      at += sent;
    }
  }
}

void H2Client::on_readable() {
  static uint8_t bytes[256 << 10];
  const ssize_t size = ::recv(fd_, bytes, sizeof bytes, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0 || nghttp2_session_mem_recv(session_, bytes, static_cast<size_t>(size)) != size) {
    lost_ = true;
    return;
  }
  deliver();  // the next call's HEADERS leave together with what is queued
  if (session_ != nullptr) flush();
}

void H2Client::on_bytes(const uint8_t* data, size_t size) {
  buffer_.append(reinterpret_cast<const char*>(data), size);
  while (buffer_.size() >= 5) {
    size_t length = 0;
    for (size_t i = 1; i < 5; ++i) length = length << 8 | static_cast<uint8_t>(buffer_[i]);
    if (buffer_.size() < 5 + length) return;
    message_ = buffer_.substr(5, length);
    buffer_.erase(0, 5 + length);
    if (!method_.streaming) continue;
    status_ = 0;
    ready_ = true;
    if (keep_stream_) continue;
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, std::exchange(stream_, 0), NGHTTP2_CANCEL);
  }
}

void H2Client::on_stream_over() {
  stream_ = 0;
  ready_ = true;
  if (method_.streaming) message_.clear();
}

void H2Client::deliver() {
  if (!std::exchange(ready_, false)) return;
  answered_(*this, status_, message_);
}

}  // namespace limpet::bench
