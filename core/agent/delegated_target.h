// SPDX-License-Identifier: Apache-2.0
#pragma once
// For whom a delegate asks: workloads with these selectors, or the one that runs as this process, which is attested. A
// member of the flow that answers the delegate; loop thread only.

#include <memory>

#include "agent/delegated_api.h"
#include "proto/agent_delegated.pb.h"

namespace limpet::agent {

class DelegatedTarget {
 public:
  explicit DelegatedTarget(const WorkloadApiParts& parts) : parts_(parts) {}
  ~DelegatedTarget();
  DelegatedTarget(const DelegatedTarget&) = delete;
  DelegatedTarget& operator=(const DelegatedTarget&) = delete;

  // INVALID_ARGUMENT unless exactly one of them is given and well-formed; INTERNAL "could not attest provided pid".
  void start(std::span<const spire_api_types_Selector> selectors, int32_t pid, Done<SelectorSet> done);

 private:
  void attest(int32_t pid);
  void on_attested(Result<SelectorSet> selectors);
  void end_later(Result<SelectorSet> selectors);

  const WorkloadApiParts& parts_;
  wire::Peer process_;
  std::unique_ptr<WorkloadAttest> attest_;
  Pending<SelectorSet> attested_;
  Done<SelectorSet> done_;
};

}  // namespace limpet::agent
