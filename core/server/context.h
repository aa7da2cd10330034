// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the server's APIs work with: references to the parts that Server owns and that outlive every flow. Loop thread
// only.

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "config/config.h"
#include "loop/loop.h"
#include "plugin/attestor.h"
#include "report/health.h"
#include "report/log.h"
#include "server/bundle_cache.h"
#include "server/ca.h"
#include "server/entry_index.h"
#include "server/jwt_keys.h"
#include "server/rate_limits.h"
#include "store/agents.h"
#include "store/entries.h"
#include "store/store.h"

namespace limpet::server {

struct Context {
  Loop& loop;
  const Clock& clock;
  Logger& logger;
  Health& health;
  Store& store;
  AgentTable& agents;
  EntryTable& entries;
  EntryIndex& index;
  BundleCache& bundles;
  X509Ca& ca;
  RateLimits& limits;
  const ServerConfig& config;
  const TrustDomain trust_domain;
  const std::vector<NodeAttestorServer*> attestors;
  JwtKeys* const jwt;                 // null: disable_jwt_svids
  UpstreamAuthority* const upstream;  // null: none

  [[nodiscard]] int64_t agent_ttl() const {
    return config.agent_ttl_s != 0 ? config.agent_ttl_s : config.default_x509_svid_ttl_s;
  }
};

// A signature that failed, as a caller is told: UNAVAILABLE where the next one may go better (no CA yet, its key is
// away for a while), else INTERNAL as in SPIRE.
inline Error not_signed(std::string_view what, const Error& why) {
  const bool later = why.code == Code::unavailable || why.code == Code::deadline_exceeded;
  return {later ? Code::unavailable : Code::internal, std::string(what) + ": " + why.message};
}

}  // namespace limpet::server
