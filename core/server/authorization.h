// SPDX-License-Identifier: Apache-2.0
#pragma once
// The gate before every server API: finds out who calls (wire notes 2.1), whether that caller may call the method
// (2.2, 2.3), checks the agent's record (2.4), and only then lets the API open the flow that answers. One GatedService
// per API and listener; loop thread only.

#include <memory>
#include <set>
#include <string>

#include "server/caller.h"
#include "server/context.h"
#include "wire/grpc.h"

namespace limpet::server {

// Why an agent was refused; the numbers are those of PermissionDeniedDetails on the wire. SPIRE agents act on them.
enum class DeniedReason : int32_t {
  unknown = 0,
  agent_expired = 1,
  agent_not_attested = 2,
  agent_not_active = 3,
  agent_banned = 4,
  agent_must_reattest = 5,
};
// PERMISSION_DENIED with the reason in the trailer grpc-status-details-bin.
Error permission_denied(std::string message, DeniedReason reason);

class GatedService final : public wire::Service {
 public:
  GatedService(Context& context, Api& api) : context_(context), api_(api) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call) override;

 private:
  Context& context_;
  Api& api_;
};

}  // namespace limpet::server
