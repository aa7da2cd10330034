// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rate limits of the Workload API and of SDS: one token bucket for each method and each set of selectors, so that one
// busy workload takes nothing from the others. Callers without selectors share one. Owned by the Agent; loop thread
// only.

#include <map>
#include <string>
#include <vector>

#include "base/token_bucket.h"
#include "config/config.h"
#include "loop/loop.h"
#include "spiffe/entry.h"
#include "wire/grpc.h"

namespace limpet::agent {

class CallLimits {
 public:
  static constexpr size_t kMostCallers = 4'096;  // a method; 100 bytes each. What is beyond shares one bucket.

  CallLimits(Loop& loop, const CallRates& rates);
  // Takes one token, or UNAVAILABLE "rate limit exceeded for /SpiffeWorkloadAPI/FetchX509SVID". The agent's own process
  // is never refused.
  Result<void> admit(const wire::ServerCall& call, const SelectorSet& caller);

 private:
  struct Method {
    std::string path;
    double rate = 0;  // a second; the burst, too
    int64_t sweep_ms = 0;
    std::map<Bytes, TokenBucket> buckets = {};  // by the digest of the selectors
  };
  TokenBucket& bucket_of(Method& method, const SelectorSet& caller);

  Loop& loop_;
  std::vector<Method> methods_;  // those with a limit
};

}  // namespace limpet::agent
