// SPDX-License-Identifier: Apache-2.0
#pragma once
// Finds out who a workload is: asks every workload attestor at once about the process at the other end of the
// connection, and makes sure afterwards that it is still that process. One that fails or takes too long leaves its
// selectors out, no more; when all do, nothing is known of the workload, and that is no reason to deny it its identity.
// A member of the flow that answers the workload; loop thread only.

#include <memory>
#include <string>
#include <vector>

#include "loop/loop.h"
#include "plugin/attestor.h"
#include "report/log.h"
#include "report/metrics.h"
#include "spiffe/entry.h"
#include "wire/grpc.h"

namespace limpet::agent {

class WorkloadAttest {
 public:
  static constexpr int64_t kDeadlineMs = 10'000;

  WorkloadAttest(Loop& loop, Logger& log, const std::vector<WorkloadAttestor*>& attestors,
                 Metrics& metrics = Metrics::none());
  ~WorkloadAttest();
  // UNAVAILABLE "workload attestation failed": the process is gone, or is another one by now, or no
  // attestor answered.
  void start(const wire::Peer& peer, Done<SelectorSet> done);

 private:
  class Asked;
  void on_answer(Asked& asked, Result<std::vector<std::string>> values);
  void on_deadline();
  void end();

  Loop& loop_;
  Logger& log_;
  const std::vector<WorkloadAttestor*>& attestors_;
  Metrics& metrics_;
  int64_t asked_ms_ = 0;              // loop time
  const wire::Peer* peer_ = nullptr;  // the call's; outlives the flow
  std::vector<std::unique_ptr<Asked>> asked_;
  size_t waiting_ = 0;
  bool answered_ = false;  // at least one attestor did
  std::vector<Selector> selectors_;
  Done<SelectorSet> done_;
  Timer deadline_;
};

}  // namespace limpet::agent
