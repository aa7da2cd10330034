// SPDX-License-Identifier: Apache-2.0
#pragma once
// The client half: dial() opens a connection (TCP with TLS, or a Unix socket in the clear) and answers with a Channel
// once the handshake and HTTP/2 settings are through. Error texts are what grpc-go prints, because SPIRE's commands
// print them:
//   Unavailable: connection error: desc = "transport: Error while dialing: dial unix /x: connect: no such file or
//   directory" Unavailable: connection error: desc = "transport: authentication handshake failed: ..."

#include <memory>
#include <string>

#include "loop/uv_loop.h"
#include "wire/grpc.h"
#include "wire/tls.h"

namespace limpet::wire {

struct DialOptions {
  std::string unix_path = {};  // this, or host and port
  std::string host = {};
  uint16_t port = 0;
  TlsPolicy* tls = nullptr;  // required for TCP; used only until the answer
  int64_t timeout_ms = 20'000;
  int64_t keepalive_ms = 0;  // 0: no pings; else a PING after this much silence, and failure if unanswered for 20 s
};
void dial(UvLoop& loop, DialOptions options, Done<std::unique_ptr<Channel>> done);

}  // namespace limpet::wire
