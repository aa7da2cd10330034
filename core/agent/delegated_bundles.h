// SPDX-License-Identifier: Apache-2.0
#pragma once
// One SubscribeToX509Bundles or SubscribeToJWTBundles call: request, the delegate, every bundle the agent has, and
// again whenever that becomes another answer. Owned by its connection; loop thread only.

#include <optional>

#include "agent/delegate_caller.h"

namespace limpet::agent {

class DelegatedBundles final : public wire::ServerFlow, public AudienceMember, public DelegateCallerClient {
 public:
  enum class Kind : uint8_t { x509, jwt };
  DelegatedBundles(const DelegatedParts& parts, wire::ServerCall& call, Kind kind);
  ~DelegatedBundles() override;
  void start() override;
  void on_view_changed() override;
  void on_caller_changed() override;

 private:
  void on_request(Result<std::optional<Bytes>> bytes);
  void on_admitted(Result<void> verdict);
  void look();
  void on_sent(Result<void> sent);
  void finish(Error error);

  const DelegatedParts& parts_;
  wire::ServerCall& call_;
  Kind kind_;
  bool sending_ = false;
  bool changed_ = false;  // while sending
  bool ended_ = false;
  uint64_t last_hash_ = 0;  // of what was sent last
  DelegateCaller caller_;
  Pending<std::optional<Bytes>> received_;
  Pending<void> admitted_;
  Pending<void> sent_;
};

}  // namespace limpet::agent
