// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where the agent gets a trust bundle that its server did not give it: the file or the address of its configuration.
// Owned by the Agent; loop thread only.

#include <memory>
#include <string>

#include "base/clock.h"
#include "config/config.h"
#include "loop/uv_loop.h"
#include "spiffe/bundle.h"

namespace limpet::agent {

class BundleSource {
 public:
  virtual ~BundleSource() = default;
  // `attempts`: how many came before; `again`: the agent had a bundle, which its server's certificates do not fit any
  // more.
  virtual void get(int attempts, bool again, Done<Bundle> done) = 0;
};

class ConfiguredBundle final : public BundleSource {
 public:
  // The clock is asked on workers: it outlives the loop's jobs. `web_roots`: a PEM file, read for each fetch.
  ConfiguredBundle(UvLoop& loop, const Clock& clock, const AgentConfig& config, TrustDomain trust_domain,
                   std::string web_roots);
  ~ConfiguredBundle() override;
  // Reads trust_bundle_path, or fetches trust_bundle_url; over trust_bundle_unix_socket with SPIRE's query parameters.
  // UNAVAILABLE, NOT_FOUND, UNAUTHENTICATED, INVALID_ARGUMENT; the text names file or address.
  void get(int attempts, bool again, Done<Bundle> done) override;

 private:
  class Fetch;
  UvLoop& loop_;
  const Clock& clock_;
  const AgentConfig& config_;
  TrustDomain trust_domain_;
  std::string web_roots_;
  int64_t started_at_;
};

}  // namespace limpet::agent
