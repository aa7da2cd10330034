// SPDX-License-Identifier: Apache-2.0
#pragma once
// One attempt of this node to attest: dials without a certificate, makes a key, sends the attestor's payload, answers
// the challenges, takes the SVID, asks for the bundle on the same connection, and checks the one against the other.
// Nothing is kept here: the one who asked stores what comes out. Owned by the AgentKeeper; loop thread only.

#include <memory>
#include <optional>
#include <string>

#include "agent/agent_key.h"
#include "agent/agent_svid.h"
#include "agent/link.h"
#include "base/clock.h"
#include "plugin/attestor.h"
#include "proto/spire_agent.pb.h"
#include "proto/spire_bundle.pb.h"
#include "wire/unary.h"

namespace limpet::agent {

class AttestFlow {
 public:
  static constexpr int64_t kDeadlineMs = 60'000;

  AttestFlow(Loop& loop, const Clock& clock, Dialer& dialer, ServerTrust& trust, KeyManager& keys,
             NodeAttestorAgent& attestor);
  // `key_id` names the slot for the new key.
  void start(std::string key_id, Done<NewIdentity> done);

 private:
  using Request = spire_api_server_agent_v1_AttestAgentRequest;
  using Response = spire_api_server_agent_v1_AttestAgentResponse;

  void on_dialled(Result<std::unique_ptr<wire::Channel>> channel);
  void on_key(Result<KeyAndCsr> key);
  void on_payload(Result<Bytes> payload);
  void on_said(Result<std::optional<Bytes>> message);
  void on_answer(Result<Bytes> answer);
  void on_bundle(Result<wire::Message<spire_api_types_Bundle>> bundle);
  void on_checked(Result<void> checked);
  void on_deadline();
  void on_sent(Result<void>) {}  // a failure shows in receive()
  void send(const wire::Message<Request>& request);
  void take_result(const Response& response);
  void end(Result<NewIdentity> result);

  Loop& loop_;
  const Clock& clock_;
  Dialer& dialer_;
  ServerTrust& trust_;
  NodeAttestorAgent& attestor_;
  std::string key_id_;
  KeyCsrFlow new_key_;
  NewIdentity identity_;
  Bytes csr_;
  int rounds_ = 0;
  std::unique_ptr<wire::Channel> channel_;
  std::unique_ptr<wire::ClientCall> stream_;
  std::unique_ptr<NodeAttestorAgentSession> session_;
  wire::UnaryCall<spire_api_server_bundle_v1_GetBundleRequest, spire_api_types_Bundle> get_bundle_;
  Done<NewIdentity> done_;
  Pending<std::unique_ptr<wire::Channel>> dialled_;
  Pending<KeyAndCsr> keyed_;
  Pending<Bytes> payload_;
  Pending<Bytes> answer_;
  Pending<std::optional<Bytes>> said_;
  Pending<void> sent_;
  Pending<wire::Message<spire_api_types_Bundle>> bundle_;
  Pending<void> checked_;
  Timer deadline_;
};

}  // namespace limpet::agent
