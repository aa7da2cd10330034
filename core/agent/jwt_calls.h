// SPDX-License-Identifier: Apache-2.0
#pragma once
// The Workload API's two unary JWT calls. Each: header, request and its parameters, attestation, then what was asked
// for. Owned by their connections; loop thread only.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/workload_api.h"
#include "proto/workload.pb.h"
#include "spiffe/jwt_svid.h"
#include "wire/message.h"

namespace limpet::agent {

// What both share: who asks, with which request.
class JwtCall : public wire::ServerFlow {
 public:
  JwtCall(const WorkloadApiParts& parts, wire::ServerCall& call) : parts_(parts), call_(call) {}
  void start() override;

 protected:
  // Judges the request before anybody is attested.
  virtual Result<void> take(BytesView request) = 0;
  virtual void on_workload(SelectorSet selectors) = 0;
  void reply(Result<Bytes> response, bool secret);
  void refuse(Error error) { call_.finish(fail(std::move(error))); }

  const WorkloadApiParts& parts_;
  wire::ServerCall& call_;

 private:
  void on_request(Result<std::optional<Bytes>> request);
  void on_attested(Result<SelectorSet> selectors);
  void on_sent(Result<void> sent) { call_.finish(std::move(sent)); }

  std::unique_ptr<WorkloadAttest> attest_;
  Pending<std::optional<Bytes>> received_;
  Pending<SelectorSet> attested_;
  Pending<void> sent_;
};

class FetchJwtCall final : public JwtCall, public AudienceMember {
 public:
  FetchJwtCall(const WorkloadApiParts& parts, wire::ServerCall& call) : JwtCall(parts, call), wait_(parts.loop) {}
  ~FetchJwtCall() override;
  void on_view_changed() override;

 private:
  Result<void> take(BytesView request) override;
  void on_workload(SelectorSet selectors) override;
  void on_waited();
  void look();
  void next();
  void on_issued(Result<std::string> token);

  std::vector<std::string> wanted_;  // audiences
  std::optional<SpiffeId> id_;       // the only one that is asked for
  Audience* audience_ = nullptr;
  std::vector<Entry> entries_;
  bool waited_ = false;
  std::vector<std::string> tokens_;  // one for each of the first entries
  Pending<std::string> issued_;
  Timer wait_;
};

class ValidateJwtCall final : public JwtCall {
 public:
  using JwtCall::JwtCall;

 private:
  Result<void> take(BytesView request) override;
  void on_workload(SelectorSet selectors) override;
  Result<Bytes> find_key(const Audience& audience) const;
  void on_verified(Result<bool> verified);

  std::string wanted_;  // the audience
  std::string svid_;
  JwtSvidToken token_;
  Bytes name_;  // for VerifiedTokens
  Pending<bool> verified_;
};

}  // namespace limpet::agent
