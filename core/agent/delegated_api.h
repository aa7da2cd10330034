// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.api.agent.delegatedidentity.v1.DelegatedIdentity on the admin socket: a caller that the operator trusts gets
// what workloads may have that cannot ask themselves, named by their selectors or their process. Admin and downstream
// identities are never given. Owned by the Agent; loop thread only.
//
// Glossary. Delegate: the caller; it must itself be a workload with an identity that `authorized_delegates` names.
// Target: the workloads it asks for.

#include <memory>
#include <set>
#include <string>

#include "agent/workload_api.h"

namespace limpet::agent {

struct DelegatedParts {
  WorkloadApiParts workload;
  std::set<std::string, std::less<>> delegates;  // SPIFFE IDs
};

class DelegatedApi final : public wire::Service {
 public:
  static constexpr const char* kName = "spire.api.agent.delegatedidentity.v1.DelegatedIdentity";
  static constexpr size_t kMostSelectors = 1'024;  // in one request

  explicit DelegatedApi(DelegatedParts parts) : parts_(std::move(parts)) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call) override;

 private:
  DelegatedParts parts_;
};

}  // namespace limpet::agent
