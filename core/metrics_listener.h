// SPDX-License-Identifier: Apache-2.0
#pragma once
// The HTTP listener of [telemetry.Prometheus]: answers every path with a role's metrics, as SPIRE's does. Plain HTTP,
// on localhost unless the configuration says otherwise. Owned by main, one for a role; loop thread only.

#include <memory>

#include "base/clock.h"
#include "config/config.h"
#include "loop/uv_loop.h"
#include "report/metrics.h"
#include "wire/http_server.h"

namespace limpet {

class MetricsListener final : public wire::HttpHandler {
 public:
  // UNAVAILABLE names the address. Loop, clock and metrics outlive it.
  static Result<std::unique_ptr<MetricsListener>> open(UvLoop& loop, const Clock& clock, Metrics& metrics,
                                                       const TelemetryConfig& config);
  void handle(wire::HttpRequest request, Done<wire::HttpResponse> done) override;

 private:
  MetricsListener(UvLoop& loop, const Clock& clock, Metrics& metrics);
  UvLoop& loop_;
  Metrics& metrics_;
  wire::HttpServer server_;
  std::unique_ptr<Listener> listener_;
};

// The prefix and the labels that the configuration asks for.
Metrics::Options metrics_options(const TelemetryConfig& config, std::string_view role, const std::string& trust_domain);
// What every role tells of itself: "started" with its version, and "uptime_in_ms".
void tell_started(Metrics& metrics, const Loop& loop, const std::string& trust_domain);

}  // namespace limpet
