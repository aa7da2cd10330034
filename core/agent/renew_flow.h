// SPDX-License-Identifier: Apache-2.0
#pragma once
// One attempt to renew the agent's SVID with the one it has: a key in the other slot, RenewAgent, a check of what came.
// For agents whose attestor cannot attest twice. Owned by the AgentKeeper; loop thread only.

#include "agent/agent_key.h"
#include "agent/agent_svid.h"
#include "agent/link.h"
#include "base/clock.h"
#include "proto/spire_agent.pb.h"
#include "wire/unary.h"

namespace limpet::agent {

class RenewFlow {
 public:
  static constexpr int64_t kDeadlineMs = 60'000;

  RenewFlow(Loop& loop, const Clock& clock, Link& link, ServerTrust& trust, KeyManager& keys);
  void start(const std::string& key_id, Done<NewIdentity> done);

 private:
  using Request = spire_api_server_agent_v1_RenewAgentRequest;
  using Response = spire_api_server_agent_v1_RenewAgentResponse;

  void on_channel(Result<SharedChannel> channel);
  void on_key(Result<KeyAndCsr> key);
  void on_renewed(Result<wire::Message<Response>> response);
  void on_checked(Result<void> checked);
  void on_deadline();
  void end(Result<NewIdentity> result);

  Loop& loop_;
  const Clock& clock_;
  Link& link_;
  ServerTrust& trust_;
  KeyCsrFlow new_key_;
  std::string key_id_;
  NewIdentity identity_;
  SharedChannel channel_;
  wire::UnaryCall<Request, Response> renew_;
  Done<NewIdentity> done_;
  Pending<SharedChannel> acquired_;
  Pending<KeyAndCsr> keyed_;
  Pending<wire::Message<Response>> renewed_;
  Pending<void> checked_;
  Timer deadline_;
};

}  // namespace limpet::agent
