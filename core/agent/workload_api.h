// SPDX-License-Identifier: Apache-2.0
#pragma once
// The SPIFFE Workload API: the service that opens a flow per call, and what its flows share. Methods of
// profiles that are not offered answer UNIMPLEMENTED, after the security header like all others. Owned by the Agent;
// loop thread only.

#include <memory>
#include <vector>

#include "agent/audience.h"
#include "agent/call_limits.h"
#include "agent/workload_attest.h"
#include "wire/grpc.h"

namespace limpet::agent {

class JwtIssuer;
class VerifiedTokens;

class WorkloadApiClient {
 public:
  virtual ~WorkloadApiClient() = default;
  // A workload waits for an identity that is not signed yet.
  virtual void on_identity_wanted() = 0;
  // The agent knows what the server authorized: from this run or from the store.
  [[nodiscard]] virtual bool knows_entries() const = 0;
};

struct WorkloadApiParts {
  Loop& loop;
  Logger& log;
  Audiences& audiences;
  const std::vector<WorkloadAttestor*>& attestors;
  WorkloadApiClient& client;
  const Clock& clock;
  JwtIssuer& jwt;
  VerifiedTokens& verified;
  std::vector<std::string> foreign_claims;  // which claims of foreign tokens are passed on
  bool allow_unauthenticated_verifiers = false;
  CallLimits* limits = nullptr;  // null: none
  Metrics& metrics = Metrics::none();
};

// Whether a caller with these selectors may make this call now: what CallLimits says.
Result<void> admit_call(const WorkloadApiParts& parts, const wire::ServerCall& call, const SelectorSet& caller);

class WorkloadApi final : public wire::Service {
 public:
  static constexpr const char* kName = "SpiffeWorkloadAPI";
  // For how long a call waits for what is on its way: the first sync, the signature of a new entry's SVID.
  static constexpr int64_t kWaitForAllMs = 2'000;
  static constexpr int64_t kWaitForAnyMs = 15'000;

  explicit WorkloadApi(WorkloadApiParts parts) : parts_(parts) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call) override;

 private:
  WorkloadApiParts parts_;
};

// Exactly one "workload.spiffe.io: true". INVALID_ARGUMENT "security header missing from request".
Result<void> check_security_header(const wire::Metadata& metadata);

}  // namespace limpet::agent
