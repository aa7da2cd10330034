// SPDX-License-Identifier: Apache-2.0
// Opening connections. A dial belongs to the loop's table of operations until it posts its result, and is dropped with
// the loop. Errors are worded as Go words them.
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "loop/uv_internal.h"
#include "loop/uv_stream.h"

namespace limpet {
namespace {

constexpr size_t kAddressesTried = 8;         // of one name
constexpr int64_t kLeastMsPerAddress = 2000;  // of several addresses none gets less, as in Go

class Dial : public UvOperation {
 public:
  Dial(UvLoop& loop, Done<std::unique_ptr<Stream>> done) : loop_(loop), done_(std::move(done)), deadline_(loop) {}

 protected:
  virtual void on_connected(int status) = 0;

  // Posts the result; the task owns the dial from here on.
  void end(Result<std::unique_ptr<Stream>> result) {
    deadline_.stop();
    auto self = UvShared::of(loop_.raw()).take(this);
    if (self == nullptr) return;
    loop_.post([this, owned = std::move(self), answer = std::move(result)]() mutable { done_(std::move(answer)); });
  }

  // A connect request lives until its callback; whether anybody still waits the handle's data tells.
  static void on_connect(uv_connect_t* request, int status) {
    const std::unique_ptr<uv_connect_t> owned(request);
    if (request->handle->data != nullptr) static_cast<Dial*>(request->handle->data)->on_connected(status);
  }

  UvLoop& loop_;
  Done<std::unique_ptr<Stream>> done_;
  UvHandle<UvSocket> socket_;
  Timer deadline_;
};

class UnixDial final : public Dial {
 public:
  UnixDial(UvLoop& loop, std::string path, Done<std::unique_ptr<Stream>> done)
      : Dial(loop, std::move(done)), path_(std::move(path)) {}

  void start() {
    // libuv would cut a longer path off and connect to another socket
    if (path_.empty() || path_.size() >= sizeof(sockaddr_un::sun_path)) return on_connected(UV_EINVAL);
    int status = 0;
    socket_ = make_uv_handle<UvSocket>([this](UvSocket* s) { return uv_pipe_init(loop_.raw(), &s->pipe, 0); }, &status);
    if (!socket_) return on_connected(status);
    socket_->handle.data = static_cast<Dial*>(this);
    uv_pipe_connect(new uv_connect_t, &socket_->pipe, path_.c_str(), on_connect);  // failures come to the callback
  }

 private:
  void on_connected(int status) override {
    if (status == 0) return end(make_uv_stream(loop_, std::move(socket_), true));
    end(fail(Code::unavailable, "dial unix " + path_ + ": connect: " + errno_text(status)));
  }
  std::string path_;
};

// 1. resolve the name, unless it is an address; 2. try its addresses one after the other; 3. the first error, if all
// fail.
class TcpDial final : public Dial {
 public:
  TcpDial(UvLoop& loop, std::string host, uint16_t port, int64_t timeout_ms, Done<std::unique_ptr<Stream>> done)
      : Dial(loop, std::move(done)), host_(std::move(host)), port_(port), ends_at_(loop.now_ms() + timeout_ms) {}
  ~TcpDial() override { forget_lookup(); }

  void start();

 private:
  struct Lookup {
    uv_getaddrinfo_t request{};
    TcpDial* dial = nullptr;
  };
  static void on_resolved(uv_getaddrinfo_t* request, int status, addrinfo* list);
  void forget_lookup();
  void on_lookup_late() { lookup_failed("i/o timeout"); }
  void lookup_failed(const std::string& why);
  void take_addresses(const addrinfo* list);
  void try_next();
  void on_connected(int status) override;
  void on_address_late() { address_failed("i/o timeout"); }
  void address_failed(const std::string& why);

  std::string host_;
  uint16_t port_;
  int64_t ends_at_;
  Lookup* lookup_ = nullptr;  // freed by its callback
  std::vector<sockaddr_storage> addresses_;
  size_t next_ = 0;
  std::string first_error_;
};

void TcpDial::start() {
  sockaddr_storage address{};
  if (uv_ip4_addr(host_.c_str(), port_, reinterpret_cast<sockaddr_in*>(&address)) == 0 ||
      uv_ip6_addr(host_.c_str(), port_, reinterpret_cast<sockaddr_in6*>(&address)) == 0) {
    addresses_.push_back(address);
    return try_next();
  }
  deadline_.start<&TcpDial::on_lookup_late>(ends_at_ - loop_.now_ms(), this);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  auto lookup = std::make_unique<Lookup>();
  lookup->dial = this;
  lookup->request.data = lookup.get();
  if (host_.empty() ||
      uv_getaddrinfo(loop_.raw(), &lookup->request, on_resolved, host_.c_str(), nullptr, &hints) != 0) {
    return lookup_failed("no such host");
  }
  UvShared::of(loop_.raw()).requests++;
  lookup_ = lookup.release();
}

void TcpDial::forget_lookup() {
  if (lookup_ == nullptr) return;
  lookup_->dial = nullptr;
  uv_cancel(reinterpret_cast<uv_req_t*>(&lookup_->request));
  lookup_ = nullptr;
}

void TcpDial::on_resolved(uv_getaddrinfo_t* request, int status, addrinfo* list) {
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned_list(list, uv_freeaddrinfo);
  const std::unique_ptr<Lookup> owned(static_cast<Lookup*>(request->data));
  UvShared::of(request->loop).requests--;
  TcpDial* dial = owned->dial;
  if (dial == nullptr) return;
  dial->lookup_ = nullptr;
  if (status == 0) dial->take_addresses(list);
  if (!dial->addresses_.empty()) return dial->try_next();
  const bool unknown = status == 0 || status == UV_EAI_NONAME || status == UV_EAI_NODATA;
  dial->lookup_failed(unknown ? "no such host" : uv_strerror(status));
}

void TcpDial::take_addresses(const addrinfo* list) {
  for (; list != nullptr && addresses_.size() < kAddressesTried; list = list->ai_next) {
    sockaddr_storage address{};
    if (list->ai_addrlen > sizeof address) continue;
    std::memcpy(&address, list->ai_addr, list->ai_addrlen);
    if (address.ss_family == AF_INET) {
      reinterpret_cast<sockaddr_in*>(&address)->sin_port = htons(port_);
    } else if (address.ss_family == AF_INET6) {
      reinterpret_cast<sockaddr_in6*>(&address)->sin6_port = htons(port_);
    } else {
      continue;
    }
    addresses_.push_back(address);
  }
}

void TcpDial::lookup_failed(const std::string& why) {
  forget_lookup();
  end(fail(Code::unavailable, "dial tcp: lookup " + host_ + ": " + why));
}

void TcpDial::try_next() {
  const int64_t left = ends_at_ - loop_.now_ms();
  const auto untried = static_cast<int64_t>(addresses_.size() - next_);
  deadline_.start<&TcpDial::on_address_late>(std::min(left, std::max(left / untried, kLeastMsPerAddress)), this);
  int status = 0;
  socket_ = make_uv_handle<UvSocket>([this](UvSocket* s) { return uv_tcp_init(loop_.raw(), &s->tcp); }, &status);
  if (!socket_) return on_connected(status);
  socket_->handle.data = static_cast<Dial*>(this);
  auto request = std::make_unique<uv_connect_t>();
  const auto* address = reinterpret_cast<const sockaddr*>(&addresses_[next_]);
  status = uv_tcp_connect(request.get(), &socket_->tcp, address, on_connect);
  if (status != 0) return on_connected(status);
  (void)request.release();
}

void TcpDial::on_connected(int status) {
  if (status == 0) return end(make_uv_stream(loop_, std::move(socket_), false));
  address_failed("connect: " + errno_text(status));
}

void TcpDial::address_failed(const std::string& why) {
  socket_.reset();
  if (first_error_.empty()) {
    first_error_ = "dial tcp " + address_of(reinterpret_cast<const sockaddr*>(&addresses_[next_])).text() + ": " + why;
  }
  next_++;
  if (next_ < addresses_.size() && loop_.now_ms() < ends_at_) return try_next();
  end(fail(Code::unavailable, first_error_));
}

template <class Kind, class... Args>
void start_dial(UvLoop& loop, Args&&... args) {
  auto dial = std::make_unique<Kind>(loop, std::forward<Args>(args)...);
  Kind* raw = dial.get();
  UvShared::of(loop.raw()).operations.emplace(raw, std::move(dial));
  raw->start();
}

}  // namespace

void dial_tcp(UvLoop& loop, const std::string& host, uint16_t port, int64_t timeout_ms,
              Done<std::unique_ptr<Stream>> done) {
  start_dial<TcpDial>(loop, host, port, timeout_ms, std::move(done));
}

void dial_unix(UvLoop& loop, const std::string& path, Done<std::unique_ptr<Stream>> done) {
  start_dial<UnixDial>(loop, path, std::move(done));
}

}  // namespace limpet
