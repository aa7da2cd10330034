// SPDX-License-Identifier: Apache-2.0
#pragma once
// The trust in a server from outside: fetched at the first start until there is one, and, where the configuration
// allows it, once more when the server has shown certificates of an unknown authority for a while: an agent that was
// away while the authorities changed has no other way back. Owned by the Agent; loop thread only.

#include "agent/bundle_source.h"
#include "loop/backoff.h"
#include "report/health.h"
#include "report/log.h"

namespace limpet::agent {

class BootstrapClient {
 public:
  virtual ~BootstrapClient() = default;
  virtual void on_bootstrap_bundle(const Bundle& bundle, bool again) = 0;
};

enum class Rebootstrap : uint8_t { never, reattestable, always };

class Bootstrap {
 public:
  Bootstrap(Loop& loop, Logger& log, Health& health, BundleSource& source, Rebootstrap mode, int64_t delay_ms,
            BootstrapClient& client);
  // There is no bundle yet: tries until there is one.
  void start();
  // A connection to the server failed. Only an unknown authority matters here.
  void on_failure(const Error& why, bool reattestable);
  // A server was trusted: what came before is forgotten.
  void on_trusted() { since_ms_ = 0; }

 private:
  void get();
  void on_bundle(Result<Bundle> bundle);

  Loop& loop_;
  Logger& log_;
  Health& health_;
  BundleSource& source_;
  Rebootstrap mode_;
  int64_t delay_ms_;
  BootstrapClient& client_;
  int64_t since_ms_ = 0;  // loop milliseconds: when the unknown authority was seen first; 0: not
  int attempts_ = 0;
  bool again_ = false;
  bool failing_ = false;  // said so in the log
  Backoff backoff_{5'000, 300'000};
  Pending<Bundle> got_;
  Timer pause_;
};

// The server's certificate leads to none of the authorities that are known.
bool is_unknown_authority(const Error& why);

}  // namespace limpet::agent
