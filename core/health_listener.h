// SPDX-License-Identifier: Apache-2.0
#pragma once
// The HTTP listener of [health_checks], for probes: the live path answers 200 for as long as the loop turns (to restart
// a process does not bring a network back), the ready path 200 while the role can do its job and 503 otherwise. Both
// tell each part's state as JSON. Owned by main, one for a role; loop thread only.

#include <memory>

#include "base/clock.h"
#include "config/config.h"
#include "loop/uv_loop.h"
#include "report/health.h"
#include "wire/http_server.h"

namespace limpet {

class HealthListener final : public wire::HttpHandler {
 public:
  // UNAVAILABLE names the address. Loop, clock and health outlive it.
  static Result<std::unique_ptr<HealthListener>> open(UvLoop& loop, const Clock& clock, const Health& health,
                                                      const HealthChecksConfig& config);
  void handle(wire::HttpRequest request, Done<wire::HttpResponse> done) override;

 private:
  HealthListener(UvLoop& loop, const Clock& clock, const Health& health, const HealthChecksConfig& config);
  UvLoop& loop_;
  const Health& health_;
  HealthChecksConfig config_;
  wire::HttpServer server_;
  std::unique_ptr<Listener> listener_;
};

// {"serving":true,"state":"ok","parts":{"store":{"state":"degraded","reason":"..."}},"facts":{"last_contact":"..."}}
std::string health_json(const Health& health);

}  // namespace limpet
