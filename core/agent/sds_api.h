// SPDX-License-Identifier: Apache-2.0
#pragma once
// Envoy's secret discovery service v3 on the Workload API's socket: StreamSecrets and FetchSecrets, without a security
// header. Who may have what is the Workload API's rule: the identities whose selectors the caller has. Owned by the
// Agent; loop thread only.

#include <memory>

#include "agent/sds_messages.h"
#include "agent/workload_api.h"

namespace limpet::agent {

struct SdsParts {
  WorkloadApiParts workload;
  const Clock& clock;
  const IdentityCache& cache;
  std::string trust_domain;
  SdsConfig config;
};

class SdsApi final : public wire::Service {
 public:
  static constexpr const char* kName = "envoy.service.secret.v3.SecretDiscoveryService";
  static constexpr size_t kMostNames = 1'024;        // in one request
  static constexpr int64_t kRefusedPauseMs = 1'000;  // before an Envoy that refuses its secrets gets them once more

  explicit SdsApi(SdsParts parts) : parts_(std::move(parts)) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call) override;

 private:
  SdsParts parts_;
};

}  // namespace limpet::agent
