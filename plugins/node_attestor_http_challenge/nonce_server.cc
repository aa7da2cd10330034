// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_http_challenge/nonce_server.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include "base/errno_text.h"
#include "node_attestor_http_challenge/request.h"

namespace limpet::http_challenge {
namespace {

constexpr size_t kMaxConnections = 16;
constexpr int64_t kConnectionMs = 10'000;
constexpr int kBacklog = 16;

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// A bound and listening socket, or -1 and errno.
int bind_all(int family, uint16_t port) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  const int off = 0;
  (void)::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_storage address = {};
  socklen_t size = sizeof(sockaddr_in);
  if (family == AF_INET6) {
    (void)::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    auto* six = reinterpret_cast<sockaddr_in6*>(&address);
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    size = sizeof(sockaddr_in6);
  } else {
    auto* four = reinterpret_cast<sockaddr_in*>(&address);
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
  }
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 && ::listen(fd, kBacklog) == 0) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

uint16_t port_of(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                             : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

}  // namespace

NonceServer::~NonceServer() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    (void)!::write(wake_, &one, sizeof one);
    thread_.join();
  }
  for (const Connection& connection : connections_) ::close(connection.fd);
  if (wake_ >= 0) ::close(wake_);
  if (listener_ >= 0) ::close(listener_);
}

Result<void> NonceServer::listen(uint16_t port) {
  listener_ = bind_all(AF_INET6, port);
  if (listener_ < 0 && errno != EADDRINUSE && errno != EACCES) listener_ = bind_all(AF_INET, port);
  if (listener_ < 0)
    return fail(Code::internal, "could not listen on port " + std::to_string(port) + ": " + errno_text(errno));
  port_ = port_of(listener_);
  return {};
}

Result<void> NonceServer::serve(std::string path, std::string_view nonce) {
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_ < 0) return fail(Code::internal, "failed to start webserver: " + errno_text(errno));
  path_ = std::move(path);
  body_ = std::string(nonce) + "\n";
  thread_ = std::thread([this] { run(); });
  return {};
}

void NonceServer::run() {
  std::vector<pollfd> watched;
  for (;;) {
    watched.assign({{wake_, POLLIN, 0}, {listener_, POLLIN, 0}});
    for (const Connection& connection : connections_)
      watched.push_back({connection.fd, static_cast<short>(connection.out.empty() ? POLLIN : POLLOUT), 0});
    if (::poll(watched.data(), watched.size(), wait_ms()) < 0 && errno != EINTR) return;
    if (watched[0].revents != 0) return;
    size_t at = 2;
    const int64_t now = now_ms();
    for (auto place = connections_.begin(); place != connections_.end(); ++at) {
      const bool ready = watched[at].revents != 0;
      if (now < place->deadline && (!ready || step(*place))) {
        ++place;
        continue;
      }
      ::close(place->fd);
      place = connections_.erase(place);
    }
    if (watched[1].revents != 0) accept_one();
  }
}

// How long to sleep: until the first deadline, which is the oldest connection's.
int NonceServer::wait_ms() const {
  if (connections_.empty()) return -1;
  return static_cast<int>(std::max<int64_t>(0, connections_.front().deadline - now_ms()));
}

void NonceServer::accept_one() {
  const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    // Without a free descriptor the listener stays ready: no busy loop over it.
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return;
  }
  if (connections_.size() == kMaxConnections) {
    ::close(connections_.front().fd);
    connections_.pop_front();
  }
  connections_.push_back({fd, now_ms() + kConnectionMs, {}, {}});
}

bool NonceServer::step(Connection& connection) const {
  if (connection.out.empty()) {
    char buffer[1024];
    const ssize_t got = ::recv(connection.fd, buffer, sizeof buffer, 0);
    if (got == 0) return false;
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    connection.in.append(buffer, static_cast<size_t>(got));
    connection.out = answer_to(connection.in, path_, body_);
    if (connection.out.empty()) return true;
  }
  const ssize_t sent = ::send(connection.fd, connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  connection.out.erase(0, static_cast<size_t>(sent));
  return !connection.out.empty();
}

}  // namespace limpet::http_challenge
