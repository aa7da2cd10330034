// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sockets on libuv: listeners and connections for TCP and Unix sockets. Loop thread only.

#include <memory>
#include <string>

#include "loop/stream.h"
#include "loop/uv_loop.h"

namespace limpet {

// UNAVAILABLE with the address and the system's reason ("listen on 0.0.0.0:8081: address already in use").
Result<std::unique_ptr<Listener>> listen_tcp(UvLoop& loop, const std::string& host, uint16_t port,
                                             ListenerClient& client);
// Creates missing parent directories (0755), removes a dead socket of that name (one nobody answers on), applies `mode`
// (0777 for the Workload API, 0770 for the server's). UNAVAILABLE with the path and the reason otherwise; a path too
// long for a socket address or one that is not a socket: FAILED_PRECONDITION, and the file is left alone.
Result<std::unique_ptr<Listener>> listen_unix(UvLoop& loop, const std::string& path, uint32_t mode,
                                              ListenerClient& client);

// UNAVAILABLE: `dial tcp 127.0.0.1:8081: connect: connection refused`. The host may be a name; resolving happens on a
// worker.
void dial_tcp(UvLoop& loop, const std::string& host, uint16_t port, int64_t timeout_ms,
              Done<std::unique_ptr<Stream>> done);
// UNAVAILABLE: `dial unix /path: connect: no such file or directory`.
void dial_unix(UvLoop& loop, const std::string& path, Done<std::unique_ptr<Stream>> done);

}  // namespace limpet
