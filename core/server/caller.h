// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who calls, once authorised, and the shape of a server API behind the gate. The gate (server/authorization.h) checks
// the caller table of each method, the agent record and the rate limits, then lets the API open the flow that answers.

#include <memory>
#include <optional>
#include <string>

#include "crypto/x509.h"
#include "spiffe/entry.h"
#include "spiffe/id.h"
#include "wire/grpc.h"

namespace limpet::server {

struct Caller {
  bool local = false;  // over the Unix socket
  bool admin = false;
  bool agent = false;  // passed the agent check
  bool downstream = false;
  SpiffeId id;  // empty: local, or TCP without a certificate
  std::optional<Certificate> certificate;
  SelectorSet agent_selectors;  // when agent
};

class Api {
 public:
  virtual ~Api() = default;
  // The flow for `call.method()`, or null when this API has no such method. The caller outlives the flow.
  virtual std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller& caller) = 0;
};

}  // namespace limpet::server
