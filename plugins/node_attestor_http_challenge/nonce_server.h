// SPDX-License-Identifier: Apache-2.0
#pragma once
// Serves one nonce over HTTP/1 for as long as it lives. The port is taken at once, so that it can be told; connections
// wait in the kernel's queue until serve() starts the thread that answers them. Whoever connects is a stranger: 16
// connections, 4 KiB of head and 10 s each; the oldest makes room for a new one.

#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <thread>

#include "base/result.h"

namespace limpet::http_challenge {

class NonceServer {
 public:
  NonceServer() = default;
  ~NonceServer();  // ends the thread and closes everything; milliseconds
  NonceServer(const NonceServer&) = delete;
  NonceServer& operator=(const NonceServer&) = delete;

  // On every address, IPv6 where there is; `port` 0: any free one. INTERNAL, as SPIRE, with port and reason.
  Result<void> listen(uint16_t port);
  [[nodiscard]] uint16_t port() const { return port_; }
  // Once, after listen(). INTERNAL.
  Result<void> serve(std::string path, std::string_view nonce);

 private:
  struct Connection {
    int fd = -1;
    int64_t deadline = 0;  // ms, monotonic
    std::string in;
    std::string out;
  };
  void run();
  void accept_one();
  [[nodiscard]] bool step(Connection& connection) const;  // false: it has ended
  [[nodiscard]] int wait_ms() const;

  int listener_ = -1;
  int wake_ = -1;  // readable: the end has come
  uint16_t port_ = 0;
  std::string path_;
  std::string body_;
  std::list<Connection> connections_;  // oldest first; the thread's
  std::thread thread_;
};

}  // namespace limpet::http_challenge
