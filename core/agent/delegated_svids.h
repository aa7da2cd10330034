// SPDX-License-Identifier: Apache-2.0
#pragma once
// One SubscribeToX509SVIDs call: request, the delegate, for whom, the first answer, then one message per change until
// the delegate leaves or is none any more. Owned by its connection; loop thread only.

#include <memory>
#include <optional>

#include "agent/delegate_caller.h"
#include "agent/delegated_target.h"
#include "wire/message.h"

namespace limpet::agent {

class DelegatedSvids final : public wire::ServerFlow, public AudienceMember, public DelegateCallerClient {
 public:
  DelegatedSvids(const DelegatedParts& parts, wire::ServerCall& call);
  ~DelegatedSvids() override;
  void start() override;
  void on_view_changed() override;
  void on_caller_changed() override;

 private:
  using Request = spire_api_agent_delegatedidentity_v1_SubscribeToX509SVIDsRequest;
  void on_request(Result<std::optional<Bytes>> bytes);
  void on_admitted(Result<void> verdict);
  void on_target(Result<SelectorSet> selectors);
  void look();
  [[nodiscard]] bool waits();
  void wait_or_end(bool enough);
  void answer();
  void on_sent(Result<void> sent);
  void finish(Error error);

  const DelegatedParts& parts_;
  wire::ServerCall& call_;
  bool sending_ = false;
  bool changed_ = false;  // while sending
  bool ended_ = false;
  bool answered_ = false;
  int64_t began_ = 0;
  Audience* audience_ = nullptr;  // the target's
  wire::Message<Request> request_;
  DelegateCaller caller_;
  DelegatedTarget target_;
  Pending<std::optional<Bytes>> received_;
  Pending<void> admitted_;
  Pending<SelectorSet> resolved_;
  Pending<void> sent_;
  Timer wait_;
};

}  // namespace limpet::agent
