// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <utility>

#include "base/limits.h"
#include "config/reload.h"
#include "loop/uv_stream.h"
#include "server/bundle_endpoint.h"
#include "server/bundle_https.h"
#include "server/oidc_discovery.h"
#include "server/server_core.h"
#include "server/web_endpoint.h"
#include "wire/grpc_server.h"
#include "wire/proxy_listener.h"

namespace limpet::server {
namespace {

constexpr uint32_t kSocketMode = 0770;
constexpr int64_t kGraceMs = 10'000;
constexpr int64_t kPatienceMs = 5'000;

// What happens on the listeners. Refused connections are the peer's doing: said once each, never an error of ours.
class ListenerEvents final : public wire::GrpcServerEvents {
 public:
  ListenerEvents(Logger& logger, Metrics& metrics) : logger_(logger), metrics_(metrics) {}
  void on_call_over(std::string_view method, const wire::Peer&, Code status, int64_t elapsed_ms) override {
    if (metrics_.on()) metrics_.call(rpc_metric(method), status, elapsed_ms);
  }
  void on_connection_refused(const wire::Peer& peer, const Error& why) override {
    logger_.from_stranger(LogLevel::warn, "Connection refused",
                          {{"caller_addr", peer.address.text()}, {"error", why.text()}});
  }

 private:
  Logger& logger_;
  Metrics& metrics_;
};

}  // namespace

// Order matters: a listener hands connections to its server until it dies.
struct Server::Listeners {
  Listeners(Loop& loop, ServerCore& core, const ServerParts& parts, int64_t max_age_ms)
      : events(parts.logger, parts.metrics), tcp(loop, {&core.tls(), max_age_ms}, &events), uds(loop, {}, &events) {
    core.add_services(tcp, false);
    core.add_services(uds, true);
  }
  ListenerEvents events;
  wire::GrpcServer tcp;
  wire::GrpcServer uds;
  std::unique_ptr<wire::ProxyListener> proxies;  // before `tcp`, where load balancers are trusted
  std::unique_ptr<Listener> tcp_listener;
  std::unique_ptr<Listener> uds_listener;
  std::unique_ptr<WebEndpoint> bundle_endpoint;
  std::unique_ptr<WebEndpoint> oidc_discovery;
  int stopping = 0;
};

Server::Server(UvLoop& loop, ServerParts parts, ServerConfig config)
    : loop_(loop), config_(std::move(config)), parts_(std::move(parts)), patience_(loop) {}
Server::~Server() = default;

void Server::start(Done<void> done) {
  started_ = std::move(done);
  parts_.health.report("server", HealthState::starting);
  if (parts_.fetcher == nullptr) {
    fetcher_ = std::make_unique<HttpsBundleFetcher>(loop_, parts_.clock, wire::web_roots_file());
    parts_.fetcher = fetcher_.get();
  }
  auto core = ServerCore::make(loop_, parts_, config_);
  if (!core) {
    loop_.post([held = std::move(started_), error = std::move(core).error()]() mutable {
      held(std::unexpected(std::move(error)));
    });
    return;
  }
  core_ = std::move(*core);
  patience_.start<&Server::on_patience>(kPatienceMs, this);
  core_->start(core_started_.then<&Server::on_core_started>(this));
}

// An HSM, a TPM or an upstream authority is away: the service manager, and an agent in this process, need not wait.
void Server::on_patience() {
  Result<void> opened = open_local();
  if (!opened) core_started_.drop();
  if (!opened) return on_core_started(std::move(opened));
  core_->hold_on();
  parts_.health.report("server", HealthState::starting, "the APIs for others open when the server can sign");
  parts_.logger.warn("The server cannot sign yet: only its Unix socket and what needs no SVID is served");
  std::exchange(started_, {})({});
}

void Server::on_core_started(Result<void> started) {
  patience_.stop();
  if (!started_.wanted()) return open_rest();
  if (started && !listeners_) started = open_local();
  if (started) started = open_remote();
  parts_.health.report("server", started ? HealthState::ok : HealthState::failed,
                       started ? "" : started.error().message);
  if (!started) listeners_.reset();
  std::exchange(started_, {})(std::move(started));
}

// Long after the start: a port that somebody else took meanwhile is no reason to end.
void Server::open_rest() {
  const Result<void> opened = open_remote();
  parts_.health.report("server", opened ? HealthState::ok : HealthState::failed, opened ? "" : opened.error().message);
  if (opened) return;
  patience_.start<&Server::open_rest>(kPatienceMs, this);
  if (std::exchange(not_open_, opened.error().text()) != opened.error().text())
    parts_.logger.error("The APIs for others cannot be opened, trying again", {{"error", not_open_}});
}

// What needs no SVID.
Result<void> Server::open_local() {
  listeners_ = std::make_unique<Listeners>(loop_, *core_, parts_, config_.max_connection_age_s * 1000);
  TRY_ASSIGN(listeners_->uds_listener, listen_unix(loop_, config_.socket_path, kSocketMode, listeners_->uds));
  parts_.logger.info("Starting Server APIs", {{"address", config_.socket_path}, {"network", "unix"}});
  if (config_.oidc_discovery.enabled()) TRY_WITHIN("oidc_discovery", open_oidc_discovery(config_.oidc_discovery));
  const auto& endpoint = config_.federation.bundle_endpoint;
  if (endpoint && endpoint->profile == "https_web") TRY_WITHIN("bundle endpoint", open_bundle_endpoint(*endpoint));
  return {};
}

// With the SVID; may be called again after an error.
Result<void> Server::open_remote() {
  if (!listeners_->tcp_listener) TRY(open_tcp());
  const auto& endpoint = config_.federation.bundle_endpoint;
  if (endpoint && !listeners_->bundle_endpoint) TRY_WITHIN("bundle endpoint", open_bundle_endpoint(*endpoint));
  return {};
}

Result<void> Server::open_tcp() {
  ListenerClient* tcp = &listeners_->tcp;
  if (!config_.proxy_protocol_trusted_cidrs.empty()) {
    std::vector<IpRange> trusted;
    for (const std::string& cidr : config_.proxy_protocol_trusted_cidrs) {
      TRY_ASSIGN_WITHIN("proxy_protocol_trusted_cidrs", IpRange range, IpRange::parse(cidr));
      trusted.push_back(range);
    }
    listeners_->proxies =
        std::make_unique<wire::ProxyListener>(loop_, std::move(trusted), listeners_->tcp, &listeners_->events);
    tcp = listeners_->proxies.get();
  }
  TRY_ASSIGN(listeners_->tcp_listener, listen_tcp(loop_, config_.bind_address, config_.bind_port, *tcp));
  parts_.logger.info("Starting Server APIs",
                     {{"address", config_.bind_address + ":" + std::to_string(port())}, {"network", "tcp"}});
  return {};
}

// https_spiffe: with the server's own SVID; https_web: with a certificate from files.
Result<void> Server::open_bundle_endpoint(const BundleEndpointConfig& config) {
  auto endpoint =
      std::make_unique<WebEndpoint>(loop_, parts_.clock, parts_.logger, "Bundle endpoint",
                                    std::make_unique<BundleEndpoint>(loop_, core_->bundles(), config.refresh_hint_s));
  if (config.profile == "https_web") {
    TRY(endpoint->use_files({config.cert_file_path, config.key_file_path, config.file_sync_interval_s * 1000}));
  } else {
    endpoint->use(core_->tls());
  }
  TRY(endpoint->listen(config.address, config.port));
  parts_.logger.info(
      "Serving the bundle endpoint",
      {{"address", config.address + ":" + std::to_string(endpoint->port())}, {"profile", config.profile}});
  listeners_->bundle_endpoint = std::move(endpoint);
  return {};
}

// Over HTTPS with a certificate from files, or in the clear for a proxy on this host.
Result<void> Server::open_oidc_discovery(const OidcDiscoveryConfig& config) {
  auto endpoint = std::make_unique<WebEndpoint>(
      loop_, parts_.clock, parts_.logger, "OIDC discovery",
      std::make_unique<OidcDiscovery>(loop_, core_->bundles(), config, config_.jwt_issuer));
  if (!config.cert_file_path.empty()) {
    TRY(endpoint->use_files({config.cert_file_path, config.key_file_path, config.file_sync_interval_s * 1000}));
  }
  std::string address = config.socket_path;
  if (address.empty()) {
    TRY(endpoint->listen(config.bind_address, config.bind_port));
    address = config.bind_address + ":" + std::to_string(endpoint->port());
  } else {
    TRY(endpoint->listen(address));
  }
  parts_.logger.info("Serving OIDC discovery", {{"address", address}});
  if (config_.jwt_issuer.empty()) {
    parts_.logger.warn("JWT-SVIDs name no issuer, so verifiers that follow OIDC discovery refuse them: set jwt_issuer");
  }
  listeners_->oidc_discovery = std::move(endpoint);
  return {};
}

void Server::reload(const ServerConfig& next) {
  (void)limpet::reload(config_, next);
  if (core_) core_->on_config_changed();
}

uint16_t Server::port() const {
  return listeners_ && listeners_->tcp_listener ? listeners_->tcp_listener->port() : uint16_t{0};
}

void Server::stop(Done<void> done) {
  core_started_.drop();
  patience_.stop();
  if (!listeners_) {
    loop_.post([held = std::move(done)]() mutable { held({}); });
    return;
  }
  stopped_ = std::move(done);
  listeners_->tcp_listener.reset();
  listeners_->proxies.reset();
  listeners_->uds_listener.reset();
  listeners_->bundle_endpoint.reset();
  listeners_->oidc_discovery.reset();
  listeners_->stopping = 2;
  listeners_->tcp.stop(kGraceMs, tcp_stopped_.then<&Server::on_tcp_stopped>(this));
  listeners_->uds.stop(kGraceMs, uds_stopped_.then<&Server::on_uds_stopped>(this));
}

void Server::on_tcp_stopped(Result<void>) { on_uds_stopped({}); }
void Server::on_uds_stopped(Result<void>) {
  if (--listeners_->stopping > 0) return;
  listeners_.reset();
  Done<void> done = std::move(stopped_);
  done({});
}

}  // namespace limpet::server
