// SPDX-License-Identifier: Apache-2.0
#pragma once
// One FetchX509SVID, FetchX509Bundles or FetchJWTBundles call: header, request, attestation, the first answer, then one
// message per change until the workload leaves or has no identity any more. Owned by its connection; loop thread only.
// About 300 bytes while it waits.

#include <memory>
#include <optional>

#include "agent/workload_api.h"

namespace limpet::agent {

class WorkloadStream final : public wire::ServerFlow, public AudienceMember {
 public:
  enum class Kind : uint8_t { svids, bundles, jwt_bundles };
  WorkloadStream(const WorkloadApiParts& parts, wire::ServerCall& call, Kind kind);
  ~WorkloadStream() override;
  void start() override;
  void on_view_changed() override;

 private:
  void on_request(Result<std::optional<Bytes>> request);
  void on_attested(Result<SelectorSet> selectors);
  void on_waited();
  void look();
  void look_for_svids();
  void send_bundles();
  void wait_or(bool enough, Code code, const char* message);
  void send(const Bytes& message, bool secret);
  void on_sent(Result<void> sent);
  void finish(Error error);

  const WorkloadApiParts& parts_;
  wire::ServerCall& call_;
  Kind kind_;
  bool sending_ = false;
  bool changed_ = false;  // while sending
  bool ended_ = false;
  bool answered_ = false;
  int64_t began_ = 0;
  uint64_t last_hash_ = 0;  // of the bundles sent last
  Audience* audience_ = nullptr;
  std::unique_ptr<WorkloadAttest> attest_;
  Pending<std::optional<Bytes>> received_;
  Pending<SelectorSet> attested_;
  Pending<void> sent_;
  Timer wait_;
};

}  // namespace limpet::agent
