// SPDX-License-Identifier: Apache-2.0
#pragma once
// One FetchJWTSVIDs call: request, the delegate, for whom, then one JWT-SVID after the other. Owned by its connection;
// loop thread only.

#include <optional>
#include <string>
#include <vector>

#include "agent/delegate_caller.h"
#include "agent/delegated_target.h"
#include "wire/message.h"

namespace limpet::agent {

class DelegatedJwt final : public wire::ServerFlow, public DelegateCallerClient {
 public:
  DelegatedJwt(const DelegatedParts& parts, wire::ServerCall& call);
  void start() override;
  void on_caller_changed() override;

 private:
  using Request = spire_api_agent_delegatedidentity_v1_FetchJWTSVIDsRequest;
  void on_request(Result<std::optional<Bytes>> bytes);
  Result<void> take(BytesView bytes);
  void on_admitted(Result<void> verdict);
  void on_target(Result<SelectorSet> selectors);
  void next();
  void on_issued(Result<std::string> token);
  void on_sent(Result<void> sent);
  void finish(Error error);

  const DelegatedParts& parts_;
  wire::ServerCall& call_;
  bool ended_ = false;
  wire::Message<Request> request_;
  std::vector<std::string> audience_;
  std::vector<Entry> entries_;
  std::vector<std::string> tokens_;  // one for each of the first entries
  DelegateCaller caller_;
  DelegatedTarget target_;
  Pending<std::optional<Bytes>> received_;
  Pending<void> admitted_;
  Pending<SelectorSet> resolved_;
  Pending<std::string> issued_;
  Pending<void> sent_;
};

}  // namespace limpet::agent
