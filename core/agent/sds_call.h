// SPDX-License-Identifier: Apache-2.0
#pragma once
// One StreamSecrets or FetchSecrets call: attestation, then a response for each request that is not an acknowledgement
// and for each change of what the workload may have. Owned by its connection; loop thread only.
//
// Glossary. Nonce: names a response; a request that names another one than the last answers an older response and is
// passed over. Refused (NACK): Envoy could not use a response and says why; it gets it again.

#include <memory>
#include <optional>
#include <set>
#include <string>

#include "agent/sds_api.h"

namespace limpet::agent {

class SdsCall final : public wire::ServerFlow, public AudienceMember {
 public:
  SdsCall(const SdsParts& parts, wire::ServerCall& call, bool once);
  ~SdsCall() override;
  void start() override;
  void on_view_changed() override;

 private:
  using Request = envoy_service_secret_v3_DiscoveryRequest;
  void on_attested(Result<SelectorSet> selectors);
  void on_request(Result<std::optional<Bytes>> request);
  void take(const Request& request);
  void refused(const Request& request);
  void on_waited();
  void look();
  [[nodiscard]] bool waits_for_svids();
  [[nodiscard]] bool named_is_missing() const;
  void wait_or(bool enough, const char* message);
  void answer();
  void on_sent(Result<void> sent);
  void finish(Result<void> status);

  const SdsParts& parts_;
  wire::ServerCall& call_;
  const bool once_;
  bool asked_ = false;
  bool sending_ = false;
  bool again_ = false;  // something came up while sending
  bool ended_ = false;
  bool answered_ = false;
  int refusals_ = 0;  // in a row
  int64_t began_ = 0;
  uint64_t version_ = 1;
  std::string sent_version_;
  std::string nonce_;  // of the last response
  std::set<std::string> names_;
  SdsNode node_;  // only a stream's first request needs to say it
  Audience* audience_ = nullptr;
  std::unique_ptr<WorkloadAttest> attest_;
  Pending<SelectorSet> attested_;
  Pending<std::optional<Bytes>> received_;
  Pending<void> sent_;
  Timer wait_;
};

}  // namespace limpet::agent
