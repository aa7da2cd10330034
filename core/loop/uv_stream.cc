// SPDX-License-Identifier: Apache-2.0
// A connected socket. Owned by whoever reads and writes; its libuv handle closes behind it.
#include "loop/uv_stream.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/secret.h"
#include "loop/uv_internal.h"

namespace limpet {
namespace {

constexpr unsigned kKeepAliveSeconds = 60;

Error stream_error(const char* doing, int status) {
  if (status == UV_ECANCELED) return {Code::cancelled, std::string(doing) + ": the stream was closed"};
  return {Code::unavailable, std::string(doing) + ": " + errno_text(status)};
}

// One uv_write: lives until its callback, which libuv calls in any case.
struct WriteRequest {
  ~WriteRequest() { wipe(bytes); }  // may have carried keys
  uv_write_t request{};
  Bytes bytes;
  Done<void> done;
};

struct ShutdownRequest {
  uv_shutdown_t request{};
  Done<void> done;
};

template <class Request>
void finish_request(void* data, const char* doing, int status) {
  const std::unique_ptr<Request> request(static_cast<Request*>(data));
  Done<void> done = std::move(request->done);
  if (status == 0) return done({});
  done(fail(stream_error(doing, status)));
}

class UvStream final : public Stream {
 public:
  UvStream(UvLoop& loop, UvHandle<UvSocket> socket, bool unix_socket);

  void read(StreamReader& reader) override;
  void pause() override;
  void write(Bytes bytes, Done<void> done) override;
  void shutdown(Done<void> done) override;
  [[nodiscard]] size_t queued() const override { return uv_stream_get_write_queue_size(&socket_->stream); }
  [[nodiscard]] const StreamAddress& peer_address() const override { return peer_; }
  [[nodiscard]] std::optional<PeerCredentials> credentials() const override { return credentials_; }
  [[nodiscard]] int descriptor() const override;

 private:
  static void on_alloc(uv_handle_t* handle, size_t, uv_buf_t* buffer);
  static void on_read(uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer);
  void later(Done<void> done, Result<void> result);
  void end(int status);
  void end_later() { end(end_status_); }

  UvLoop& loop_;
  UvHandle<UvSocket> socket_;
  StreamReader* reader_ = nullptr;
  StreamAddress peer_;
  std::optional<PeerCredentials> credentials_;
  Timer end_later_;  // for a failure found inside read()
  int end_status_ = 0;
  bool ended_ = false;
};

UvStream::UvStream(UvLoop& loop, UvHandle<UvSocket> socket, bool unix_socket)
    : loop_(loop), socket_(std::move(socket)), end_later_(loop) {
  socket_->handle.data = this;
  if (unix_socket) {
    peer_.unix_socket = true;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(descriptor(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
      credentials_ = PeerCredentials{peer.pid, peer.uid, peer.gid};
    }
    return;
  }
  sockaddr_storage address{};
  int size = sizeof address;
  if (uv_tcp_getpeername(&socket_->tcp, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    peer_ = address_of(reinterpret_cast<const sockaddr*>(&address));
    peer_.unix_socket = false;
  }
  uv_tcp_nodelay(&socket_->tcp, 1);
  uv_tcp_keepalive(&socket_->tcp, 1, kKeepAliveSeconds);
}

int UvStream::descriptor() const {
  uv_os_fd_t fd = -1;
  return uv_fileno(&socket_->handle, &fd) == 0 ? fd : -1;
}

void UvStream::on_alloc(uv_handle_t* handle, size_t, uv_buf_t* buffer) {
  UvShared& shared = UvShared::of(handle->loop);
  if (!shared.read_buffer) shared.read_buffer = std::make_unique_for_overwrite<char[]>(UvShared::kReadBuffer);
  *buffer = uv_buf_init(shared.read_buffer.get(), UvShared::kReadBuffer);
}

void UvStream::on_read(uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer) {
  auto* self = static_cast<UvStream*>(stream->data);
  if (self == nullptr || count == 0) return;
  if (count < 0) return self->end(static_cast<int>(count));
  self->reader_->on_bytes({reinterpret_cast<const uint8_t*>(buffer->base), static_cast<size_t>(count)});
}

void UvStream::read(StreamReader& reader) {
  reader_ = &reader;
  if (ended_) return;
  const int status = uv_read_start(&socket_->stream, on_alloc, on_read);
  if (status == 0 || status == UV_EALREADY) return;
  end_status_ = status;
  end_later_.start<&UvStream::end_later>(0, this);
}

void UvStream::pause() {
  end_later_.stop();
  uv_read_stop(&socket_->stream);
}

void UvStream::end(int status) {
  if (ended_) return;
  ended_ = true;
  uv_read_stop(&socket_->stream);
  if (status == UV_EOF) return reader_->on_end(std::nullopt);
  reader_->on_end(stream_error("read", status));
}

void UvStream::later(Done<void> done, Result<void> result) {
  if (!done.wanted()) return;
  loop_.post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

void UvStream::write(Bytes bytes, Done<void> done) {
  // most writes fit the socket's buffer: no request, no heap object
  uv_buf_t buffer = uv_buf_init(reinterpret_cast<char*>(bytes.data()), static_cast<unsigned>(bytes.size()));
  int written = 0;
  if (!bytes.empty()) {
    written = uv_try_write(&socket_->stream, &buffer, 1);
    if (written == UV_EAGAIN) written = 0;
    if (written < 0) return later(std::move(done), fail(stream_error("write", written)));
  }
  const auto taken = static_cast<size_t>(written);
  if (taken == bytes.size() && (taken != 0 || queued() == 0)) {
    wipe(bytes);
    return later(std::move(done), {});
  }

  auto request = std::make_unique<WriteRequest>();
  request->bytes = std::move(bytes);
  request->done = std::move(done);
  request->request.data = request.get();
  buffer = uv_buf_init(reinterpret_cast<char*>(request->bytes.data()) + taken,
                       static_cast<unsigned>(request->bytes.size() - taken));
  const int status = uv_write(&request->request, &socket_->stream, &buffer, 1, [](uv_write_t* r, int result) {
    finish_request<WriteRequest>(r->data, "write", result);
  });
  if (status != 0) return later(std::move(request->done), fail(stream_error("write", status)));
  (void)request.release();  // the callback's now
}

void UvStream::shutdown(Done<void> done) {
  auto request = std::make_unique<ShutdownRequest>();
  request->done = std::move(done);
  request->request.data = request.get();
  const int status = uv_shutdown(&request->request, &socket_->stream, [](uv_shutdown_t* r, int result) {
    finish_request<ShutdownRequest>(r->data, "shutdown", result);
  });
  if (status != 0) return later(std::move(request->done), fail(stream_error("shutdown", status)));
  (void)request.release();
}

}  // namespace

std::unique_ptr<Stream> make_uv_stream(UvLoop& loop, UvHandle<UvSocket> socket, bool unix_socket) {
  return std::make_unique<UvStream>(loop, std::move(socket), unix_socket);
}

StreamAddress address_of(const sockaddr* address) {
  StreamAddress out;
  char text[64] = "";
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    uv_ip4_name(v4, text, sizeof text);
    out.port = ntohs(v4->sin_port);
  } else if (address->sa_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
    uv_ip6_name(v6, text, sizeof text);
    out.port = ntohs(v6->sin6_port);
  } else {
    out.unix_socket = true;
  }
  out.ip = text;
  if (out.ip.starts_with("::ffff:") && out.ip.find('.') != std::string::npos)
    out.ip.erase(0, 7);  // IPv4 on a dual socket
  return out;
}

}  // namespace limpet
