// SPDX-License-Identifier: Apache-2.0
#pragma once
// What stands behind the host service limpet.grpc/1: unary calls to a SPIFFE server with an SVID of a Workload API.
// SpiffeCaller is the real one; tests use fakes. Loop thread only.

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "loop/done.h"

namespace limpet {

struct GrpcRequest {
  std::string host;
  uint16_t port = 0;
  std::string trust_domain;  // of the server
  std::string socket_path;   // of the Workload API
  std::string method;        // "/package.Service/Method"
  Bytes message;
  int64_t timeout_ms = 0;
};

class GrpcCaller {
 public:
  virtual ~GrpcCaller() = default;
  // Answers with the serialized reply. Nobody waiting any more ends the call.
  virtual void call(GrpcRequest request, Done<Bytes> done) = 0;
};

}  // namespace limpet
