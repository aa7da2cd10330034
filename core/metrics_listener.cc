// SPDX-License-Identifier: Apache-2.0
#include "metrics_listener.h"

#include <unistd.h>

#include <array>

#include "loop/uv_stream.h"

namespace limpet {

MetricsListener::MetricsListener(UvLoop& loop, const Clock& clock, Metrics& metrics)
    : loop_(loop), metrics_(metrics), server_(loop, clock, {}, *this) {}

Result<std::unique_ptr<MetricsListener>> MetricsListener::open(UvLoop& loop, const Clock& clock, Metrics& metrics,
                                                               const TelemetryConfig& config) {
  std::unique_ptr<MetricsListener> made(new MetricsListener(loop, clock, metrics));
  TRY_ASSIGN_WITHIN("telemetry.Prometheus", made->listener_,
                    listen_tcp(loop, config.prometheus_host, config.prometheus_port, made->server_));
  return made;
}

void MetricsListener::handle(wire::HttpRequest, Done<wire::HttpResponse> done) {
  wire::http_answer(loop_, std::move(done),
                    wire::http_body(200, "text/plain; version=0.0.4; charset=utf-8", metrics_.text()));
}

Metrics::Options metrics_options(const TelemetryConfig& config, std::string_view role,
                                 const std::string& trust_domain) {
  Metrics::Options options;
  options.prefix = config.metric_prefix.empty() ? "spire_" + std::string(role) : config.metric_prefix;
  std::array<char, 256> host{};
  if (config.enable_hostname_label && ::gethostname(host.data(), host.size() - 1) == 0)
    options.labels.emplace_back("host", host.data());
  if (config.enable_trust_domain_label) options.labels.emplace_back("trust_domain", trust_domain);
  return options;
}

void tell_started(Metrics& metrics, const Loop& loop, const std::string& trust_domain) {
  metrics.gauge("started", 1, {{"version", LIMPET_VERSION}, {"trust_domain_id", trust_domain}});
  metrics.before_text([&loop, since = loop.now_ms()](Metrics& m) {
    m.gauge("uptime_in_ms", static_cast<double>(loop.now_ms() - since));
  });
}

}  // namespace limpet
