// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who calls the Delegated Identity API: attested once, judged then and again whenever its identities change. A member
// of the flow that answers it; loop thread only.

#include <memory>

#include "agent/delegated_api.h"

namespace limpet::agent {

class DelegateCallerClient {
 public:
  virtual ~DelegateCallerClient() = default;
  // Once it was admitted: its identities are others now. check() says what that means.
  virtual void on_caller_changed() = 0;
};

class DelegateCaller final : public AudienceMember {
 public:
  DelegateCaller(const DelegatedParts& parts, DelegateCallerClient& client);
  ~DelegateCaller() override;
  DelegateCaller(const DelegateCaller&) = delete;
  DelegateCaller& operator=(const DelegateCaller&) = delete;

  // INTERNAL "workload attestation failed", or what check() says. Waits for the agent's first sync, but not for long.
  void start(const wire::Peer& peer, Done<void> done);
  // PERMISSION_DENIED "no identity issued", "caller not configured as an authorized delegate".
  [[nodiscard]] Result<void> check() const;
  void on_view_changed() override;

 private:
  void on_attested(Result<SelectorSet> selectors);
  void look();
  void end(Result<void> verdict);

  const DelegatedParts& parts_;
  DelegateCallerClient& client_;
  int64_t began_ = 0;
  bool judged_ = false;
  Audience* audience_ = nullptr;
  std::unique_ptr<WorkloadAttest> attest_;
  Pending<SelectorSet> attested_;
  Done<void> done_;
  Timer wait_;
};

// Says in the log who was refused, and why.
void log_delegate_refused(Logger& log, const wire::ServerCall& call, const Error& why);

}  // namespace limpet::agent
