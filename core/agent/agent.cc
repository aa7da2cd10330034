// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "agent/agent_keeper.h"
#include "agent/audience.h"
#include "agent/bootstrap.h"
#include "agent/bundle_source.h"
#include "agent/cache_key.h"
#include "agent/call_limits.h"
#include "agent/debug_api.h"
#include "agent/delegated_api.h"
#include "agent/jwt_issuer.h"
#include "agent/logger_api.h"
#include "agent/sds_api.h"
#include "agent/state_writer.h"
#include "agent/svid_renewer.h"
#include "agent/syncer.h"
#include "agent/trusted_clock.h"
#include "agent/verified_tokens.h"
#include "agent/workload_api.h"
#include "config/reload.h"
#include "loop/uv_stream.h"
#include "wire/grpc_client.h"
#include "wire/grpc_server.h"
#include "wire/health_service.h"
#include "wire/web_tls.h"

namespace limpet::agent {

namespace {

constexpr int64_t kSettleMs = 2'000;       // how long a disk is waited for at the end
constexpr int64_t kTimeSavedEveryS = 600;  // the known good time on disk may lag this much

class ServerDialer final : public Dialer {
 public:
  ServerDialer(UvLoop& loop, const AgentConfig& config)
      : loop_(loop), host_(config.server_address), port_(config.server_port) {}
  void dial(wire::TlsPolicy& policy, Done<std::unique_ptr<wire::Channel>> done) override {
    wire::DialOptions options;
    options.host = host_;
    options.port = port_;
    options.tls = &policy;
    options.timeout_ms = kDialTimeoutMs;
    options.keepalive_ms = 60'000;  // a link that died silently is noticed within 80 s
    wire::dial(loop_, std::move(options), std::move(done));
  }

 private:
  UvLoop& loop_;
  std::string host_;
  uint16_t port_;
};

JwtIssuerOptions jwt_options(const AgentConfig& config) {
  return {static_cast<size_t>(config.jwt_svid_cache_max_size), config.jwt_svid_cache_hit_timeout_s * 1000};
}

std::vector<std::string> foreign_claims(const AgentConfig& config) {
  std::vector<std::string> claims = config.allowed_foreign_jwt_claims;
  claims.insert(claims.end(), {"aud", "exp", "sub"});
  return claims;
}

Rebootstrap rebootstrap_mode(std::string_view name) {
  if (name == "auto") return Rebootstrap::reattestable;
  return name == "always" ? Rebootstrap::always : Rebootstrap::never;
}

}  // namespace

struct Agent::Impl final : LinkClient,
                           AgentKeeperClient,
                           SvidRenewerClient,
                           SyncerClient,
                           BootstrapClient,
                           CacheKeyClient,
                           WorkloadApiClient,
                           DebugSource,
                           wire::GrpcServerEvents {
  Impl(AgentParts given, AgentConfig settings) : parts(std::move(given)), config(std::move(settings)) {}

  Result<void> start();
  void on_calls_ended(Result<void> /*ended*/);
  void on_settled(Result<void> /*settled*/) { end_stop(); }
  void end_stop();
  void tell_lost(const std::vector<std::string>& lost);
  Result<void> take_kept(const KeptState& kept, const TrustDomain& trust_domain);
  void build(const TrustDomain& trust_domain, KeyType key_type);
  Result<void> listen();
  Result<void> listen_for_admins();

  void on_link_up() override;
  void on_dial_failed(const Error& why) override { bootstrap->on_failure(why, reattestable()); }
  void on_key_lost(const Error& why) override { keeper->on_key_lost(why); }
  void on_identity_failed(const Error& why) override { bootstrap->on_failure(why, reattestable()); }
  void on_bootstrap_bundle(const Bundle& bundle, bool again) override;
  [[nodiscard]] bool reattestable() const { return keeper->svid() && keeper->svid()->reattestable; }
  void on_cache_key(SecretBytes key) override;
  void on_cache_key_away() override { renewer->release(); }
  void on_identity() override;
  void on_bundle(const Bundle& bundle) override;
  void on_svids(const std::vector<std::string>& entry_ids) override;
  void on_sign_refused(const Error& why) override { keeper->on_denied(why); }
  void on_synced(SyncOutcome outcome) override;
  void on_sync_failed(const Error& why) override { keeper->on_denied(why); }
  void on_identity_wanted() override { renewer->poke(); }
  [[nodiscard]] bool knows_entries() const override { return known; }
  void on_connection_refused(const wire::Peer& peer, const Error& why) override;
  void on_call_begun(std::string_view method, const wire::Peer& peer) override { count_call(method, 1); }
  void on_call_over(std::string_view method, const wire::Peer& peer, Code status, int64_t elapsed_ms) override;
  void count_call(std::string_view method, int by);
  void count_cached(Metrics& metrics);
  [[nodiscard]] std::vector<Health::Fact> facts() const;
  [[nodiscard]] const std::optional<AgentSvid>& own_svid() const override { return keeper->svid(); }
  [[nodiscard]] int64_t last_sync() const override { return synced_at; }
  [[nodiscard]] size_t cached_svids() const override { return cache.svids(); }
  [[nodiscard]] size_t cached_tokens() const override { return jwt->cached(); }
  std::set<std::string> take_entries(EntriesUpdate& update);
  bool take_bundles(SyncOutcome& outcome);
  void believe_time();
  void learn_time(int64_t not_before);

  AgentParts parts;
  AgentConfig config;
  std::shared_ptr<TrustedClock> clock;  // shared with verifiers that handshakes on workers use
  int workload_calls = 0;               // open ones, for the metrics
  int sds_calls = 0;
  bool known = false;  // which entries there are: from a sync, now or in an earlier run
  bool synced_stored = false;
  int64_t time_saved = 0;
  int64_t synced_at = 0;
  int64_t contact_at = 0;  // the last success of a sync; after a restart, as far as the store knows
  IdentityCache cache;
  std::optional<AgentSvid> kept_svid;  // until the keeper starts
  std::unique_ptr<ConfiguredBundle> source;
  std::unique_ptr<Bootstrap> bootstrap;
  std::unique_ptr<ServerTrust> trust;
  std::unique_ptr<ServerDialer> dialer;
  std::unique_ptr<StateWriter> writer;
  std::unique_ptr<CacheKey> cache_key;
  std::unique_ptr<Audiences> audiences;
  std::unique_ptr<Link> link;
  std::unique_ptr<AgentKeeper> keeper;
  std::unique_ptr<SvidRenewer> renewer;
  std::unique_ptr<Syncer> syncer;
  std::unique_ptr<JwtIssuer> jwt;
  VerifiedTokens verified;
  std::unique_ptr<CallLimits> limits;
  std::unique_ptr<WorkloadApi> workload_api;
  std::unique_ptr<SdsApi> sds_api;
  std::unique_ptr<wire::HealthService> health_service;
  std::unique_ptr<wire::GrpcServer> server;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<LoggerApi> logger_api;
  std::unique_ptr<DebugApi> debug_api;
  std::unique_ptr<DelegatedApi> delegated_api;  // null: nobody is trusted with it
  std::unique_ptr<wire::GrpcServer> admin_server;
  std::unique_ptr<Listener> admin_listener;
  Done<void> stopped;
  Pending<void> calls_ended;
  Pending<void> settled;
  Timer settle_timer{parts.loop};
};

Agent::Agent(AgentParts parts, AgentConfig config)
    : impl_(std::make_unique<Impl>(std::move(parts), std::move(config))) {}
Agent::~Agent() = default;
Result<void> Agent::start() { return impl_->start(); }

void Agent::reload(const AgentConfig& next) {
  (void)limpet::reload(impl_->config, next);
  if (impl_->syncer != nullptr) impl_->syncer->set_interval(impl_->config.sync_interval_s * 1000);
}

void Agent::stop(int64_t grace_ms, Done<void> done) {
  impl_->listener.reset();
  impl_->admin_listener.reset();
  impl_->admin_server.reset();  // a delegate or an operator asks again
  if (impl_->server == nullptr) return impl_->parts.loop.post([d = std::move(done)]() mutable { d({}); });
  impl_->stopped = std::move(done);
  impl_->server->stop(grace_ms, impl_->calls_ended.then<&Impl::on_calls_ended>(impl_.get()));
}

// What workloads were given is there again after the restart, whether or not the server is.
void Agent::Impl::on_calls_ended(Result<void> /*ended*/) {
  if (writer->settled()) return end_stop();
  settle_timer.start<&Impl::end_stop>(kSettleMs, this);
  writer->tell_settled(settled.then<&Impl::on_settled>(this));
}

void Agent::Impl::end_stop() {
  settled.drop();
  settle_timer.stop();
  auto done = std::move(stopped);
  done({});
}

Result<void> Agent::Impl::start() {
  TRY_ASSIGN_WITHIN("trust_domain", const TrustDomain trust_domain, TrustDomain::parse(config.trust_domain));
  TRY_ASSIGN_WITHIN("workload_x509_svid_key_type", const KeyType key_type,
                    parse_key_type(config.workload_x509_svid_key_type));
  build(trust_domain, key_type);
  KeptState kept = writer->load();
  TRY(take_kept(kept, trust_domain));
  renewer->hold();
  TRY_WITHIN("data_dir", cache_key->start());
  TRY(listen());
  TRY(listen_for_admins());
  parts.health.set_facts([this] { return facts(); });
  parts.metrics.before_text([this](Metrics& metrics) { count_cached(metrics); });
  kept_svid = std::move(kept.svid);
  if (trust->has_bundle() || config.insecure_bootstrap)
    keeper->start(std::move(kept_svid));
  else
    bootstrap->start();
  renewer->poke();
  return {};
}

void Agent::Impl::build(const TrustDomain& trust_domain, KeyType key_type) {
  clock = std::make_shared<TrustedClock>(parts.clock);
  trust = std::make_unique<ServerTrust>(clock, trust_domain, config.insecure_bootstrap);
  dialer = std::make_unique<ServerDialer>(parts.loop, config);
  source = std::make_unique<ConfiguredBundle>(parts.loop, parts.clock, config, trust_domain, wire::web_roots_file());
  bootstrap =
      std::make_unique<Bootstrap>(parts.loop, parts.log, parts.health, *source,
                                  rebootstrap_mode(config.rebootstrap_mode), config.rebootstrap_delay_s * 1000, *this);
  writer = std::make_unique<StateWriter>(parts.store, parts.log, parts.health, cache, trust_domain);
  cache_key = std::make_unique<CacheKey>(CacheKeyParts{parts.loop, parts.store, parts.log, parts.health, parts.sealer,
                                                       config.data_dir + "/seal.key", *this});
  audiences = std::make_unique<Audiences>(parts.loop, *clock, cache, trust_domain.name());
  link = std::make_unique<Link>(parts.loop, *dialer, *trust, parts.health, parts.log, *this);
  keeper =
      std::make_unique<AgentKeeper>(AgentKeeperParts{parts.loop, *clock, parts.log, parts.health, *dialer, *trust,
                                                     *link, parts.keys, parts.attestor, *writer, *this, parts.metrics});
  renewer = std::make_unique<SvidRenewer>(parts.loop, *clock, parts.log, *link, cache, key_type,
                                          static_cast<size_t>(config.x509_svid_cache_max_size), *this, parts.metrics);
  syncer = std::make_unique<Syncer>(parts.loop, parts.log, *link, cache, trust_domain, config.sync_interval_s * 1000,
                                    *this, parts.metrics);
  jwt = std::make_unique<JwtIssuer>(parts.loop, *clock, parts.log, *link, jwt_options(config));
  limits = std::make_unique<CallLimits>(parts.loop, config.ratelimit);
  const WorkloadApiParts workload{
      parts.loop,   parts.log,    *audiences, parts.workload_attestors, *this,
      *clock,       *jwt,         verified,   foreign_claims(config),   config.allow_unauthenticated_verifiers,
      limits.get(), parts.metrics};
  workload_api = std::make_unique<WorkloadApi>(workload);
  sds_api = std::make_unique<SdsApi>(SdsParts{workload, *clock, cache, trust_domain.name(), config.sds});
  if (!config.authorized_delegates.empty())
    delegated_api = std::make_unique<DelegatedApi>(
        DelegatedParts{workload, {config.authorized_delegates.begin(), config.authorized_delegates.end()}});
}

// A call is what SPIRE calls a connection here.
void Agent::Impl::count_call(std::string_view method, int by) {
  if (!parts.metrics.on()) return;
  const std::string_view service = method.substr(1, method.rfind('/') - 1);
  if (service == WorkloadApi::kName) {
    if (by > 0) parts.metrics.count("workload_api_connection");
    parts.metrics.gauge("workload_api_connections", workload_calls += by);
  } else if (service == SdsApi::kName) {
    parts.metrics.gauge("sds_api_connections", sds_calls += by);
  }
}

void Agent::Impl::on_call_over(std::string_view method, const wire::Peer&, Code status, int64_t elapsed_ms) {
  count_call(method, -1);
  if (parts.metrics.on()) parts.metrics.call(rpc_metric(method), status, elapsed_ms);
}

void Agent::Impl::count_cached(Metrics& metrics) {
  metrics.gauge("jwt_svid_cache_size", static_cast<double>(jwt->cached()));
  metrics.gauge("lru_cache_record_map_size", static_cast<double>(cache.identities().size()));
  metrics.gauge("lru_cache_svid_map_size", static_cast<double>(cache.svids()), {{"svid_type", "x509"}});
}

// How long the workloads could go on if the server were never heard of again: until the first of them loses its SVID.
std::vector<Health::Fact> Agent::Impl::facts() const {
  std::vector<Health::Fact> facts;
  if (contact_at != 0) facts.push_back({"last_contact", TimeText(contact_at).rfc3339()});
  if (keeper->svid()) facts.push_back({"agent_svid_expires", TimeText(keeper->not_after()).rfc3339()});
  int64_t next = 0;
  for (const auto& [id, identity] : cache.identities()) {
    if (identity.svid != nullptr && (next == 0 || identity.svid->not_after < next)) next = identity.svid->not_after;
  }
  facts.push_back({"cached_svids", {}, static_cast<double>(cache.svids())});
  if (next == 0) return facts;
  facts.push_back({"next_expiry", TimeText(next).rfc3339()});
  const auto left = static_cast<double>(std::max<int64_t>(next - clock->now(), 0));
  facts.push_back({"survivable_hours", {}, std::floor(left / 360) / 10});  // one decimal, never too many
  return facts;
}

void Agent::Impl::tell_lost(const std::vector<std::string>& lost) {
  for (const std::string& what : lost)
    parts.log.error("Part of the agent's stored state cannot be read", {{"what", what}});
}

// A bundle in the store always wins over the one to start with.
Result<void> Agent::Impl::take_kept(const KeptState& kept, const TrustDomain& trust_domain) {
  tell_lost(kept.lost);
  if (kept.bundle && kept.bundle->trust_domain != trust_domain)
    return fail(Code::failed_precondition, "data_dir " + config.data_dir + " holds the state of trust domain \"" +
                                               kept.bundle->trust_domain.name() + "\", the configuration says \"" +
                                               trust_domain.name() + "\": use another data_dir");
  clock->set_floor(kept.time);
  contact_at = kept.time;
  if (clock->behind())
    parts.health.report("clock", HealthState::degraded, "the system's clock stands before the last known good time");
  else
    parts.health.report("clock", HealthState::ok);
  known = synced_stored = kept.synced;
  if (kept.bundle) {
    trust->set_bundle(*kept.bundle);
  } else if (!config.trust_bundle_path.empty()) {
    TRY_ASSIGN(const Bundle bundle,
               read_bundle_file(config.trust_bundle_path, config.trust_bundle_format, trust_domain));
    trust->set_bundle(bundle);
  } else if (!config.insecure_bootstrap && config.trust_bundle_url.empty()) {
    return fail(
        Code::failed_precondition,
        "no trust bundle yet: set trust_bundle_path or trust_bundle_url, or insecure_bootstrap for a first try");
  }
  return {};
}

Result<void> Agent::Impl::listen() {
  server = std::make_unique<wire::GrpcServer>(parts.loop, wire::GrpcServerOptions{}, this);
  const auto ask = [this](std::string_view service) {
    if (!service.empty() && service != WorkloadApi::kName) return wire::ServingStatus::service_unknown;
    return parts.health.serving() ? wire::ServingStatus::serving : wire::ServingStatus::not_serving;
  };
  health_service = std::make_unique<wire::HealthService>(ask, std::vector<std::string>{WorkloadApi::kName});
  if (!config.disable_workload_api) server->add(WorkloadApi::kName, *workload_api);
  if (!config.disable_sds_api) server->add(SdsApi::kName, *sds_api);
  server->add(wire::kHealthServiceName, *health_service);
  TRY_ASSIGN_WITHIN("socket_path", listener, listen_unix(parts.loop, config.socket_path, 0777, *server));
  parts.log.info("Serving the Workload API", {{"address", config.socket_path}, {"network", "unix"}});
  return {};
}

Result<void> Agent::Impl::listen_for_admins() {
  if (config.admin_socket_path.empty()) return {};
  logger_api = std::make_unique<LoggerApi>(parts.log);
  debug_api = std::make_unique<DebugApi>(parts.loop, *this);
  admin_server = std::make_unique<wire::GrpcServer>(parts.loop, wire::GrpcServerOptions{}, this);
  admin_server->add(LoggerApi::kName, *logger_api);
  admin_server->add(DebugApi::kName, *debug_api);
  if (delegated_api != nullptr) admin_server->add(DelegatedApi::kName, *delegated_api);
  TRY_ASSIGN_WITHIN("admin_socket_path", admin_listener,
                    listen_unix(parts.loop, config.admin_socket_path, 0770, *admin_server));
  parts.log.info("Serving the admin APIs", {{"address", config.admin_socket_path}, {"network", "unix"}});
  return {};
}

// ---- what the parts have to say to each other ----
void Agent::Impl::on_cache_key(SecretBytes key) {
  tell_lost(writer->unlock(std::move(key)));
  audiences->refresh();
  renewer->release();
}

void Agent::Impl::on_identity() {
  if (const auto facts = facts_of(keeper->svid()->chain)) learn_time(facts->not_before);
  link->refresh();
  health_service->changed();
}

// At the first start the keeper waited for it. Later the server's own bundle follows with the first sync; until then
// the store keeps the old one.
void Agent::Impl::on_bootstrap_bundle(const Bundle& bundle, bool again) {
  trust->set_bundle(bundle);
  if (!again) return keeper->start(std::move(kept_svid));
  const auto facts = keeper->svid() ? facts_of(keeper->svid()->chain) : fail(Code::not_found, "no SVID");
  for (const X509Authority& authority : bundle.x509_authorities) {
    const auto root = Certificate::parse(authority.der);
    if (facts && root && root->subject_key_id == facts->root_key_id) return link->refresh();
  }
  keeper->attest_anew();
}

void Agent::Impl::on_link_up() {
  bootstrap->on_trusted();
  syncer->now();
  renewer->kick();
}

void Agent::Impl::on_bundle(const Bundle& bundle) {
  if (cache.put_bundle(bundle)) audiences->refresh();
}

void Agent::Impl::on_svids(const std::vector<std::string>& entry_ids) {
  for (const std::string& id : entry_ids)
    if (const Identity* identity = cache.find(id); identity != nullptr && identity->svid != nullptr)
      learn_time(identity->svid->not_before);
  writer->save_svids(entry_ids);
  cache_key->on_rebuilt();
  audiences->refresh();
}

void Agent::Impl::on_synced(SyncOutcome outcome) {
  keeper->on_accepted();
  std::set<std::string> changed = take_entries(outcome.entries);
  if (!changed.empty()) writer->save_entries(std::move(changed));
  if (take_bundles(outcome)) writer->save_bundles();
  keeper->on_taint([this](const Bytes& root) { return cache.tainted(root); });
  known = true;
  synced_at = contact_at = clock->now();
  if (!std::exchange(synced_stored, true)) writer->save_synced();
  believe_time();
  audiences->refresh();
  renewer->poke();
  health_service->changed();
}

// Returns the ids that changed, came or went.
std::set<std::string> Agent::Impl::take_entries(EntriesUpdate& update) {
  std::set<std::string> changed;
  for (Entry& entry : update.entries) {
    const std::string id = entry.id;
    const bool fresh = cache.find(id) == nullptr;
    if (!cache.put_entry(std::move(entry))) continue;
    parts.metrics.count(fresh ? "lru_cache_entry_add" : "lru_cache_entry_update");
    changed.insert(id);
  }
  std::vector<std::string> gone;
  for (const auto& [id, identity] : cache.identities())
    if (!update.present.contains(id)) gone.push_back(id);
  for (const std::string& id : gone) {
    cache.remove_entry(id);
    parts.metrics.count("lru_cache_entry_remove");
    changed.insert(id);
  }
  return changed;
}

bool Agent::Impl::take_bundles(SyncOutcome& outcome) {
  std::set<std::string> kept = {outcome.bundle.trust_domain.name()};
  kept.insert(outcome.unreadable.begin(), outcome.unreadable.end());
  trust->set_bundle(outcome.bundle);
  if (const size_t forgotten = jwt->forget_tainted(outcome.bundle); forgotten != 0)
    parts.log.info("JWT-SVIDs signed by a tainted authority were dropped", {{"count", std::to_string(forgotten)}});
  bool changed = cache.put_bundle(std::move(outcome.bundle));
  for (Bundle& bundle : outcome.federated) {
    kept.insert(bundle.trust_domain.name());
    changed |= cache.put_bundle(std::move(bundle));
  }
  std::vector<std::string> gone;
  for (const auto& [name, bundle] : cache.bundles())
    if (!kept.contains(name)) gone.push_back(name);
  for (const std::string& name : gone) changed |= cache.remove_bundle(name);
  return changed;
}

// What the server signed began before it was signed. Only of use while the own clock is not set: else a server whose
// clock is ahead would take us along.
void Agent::Impl::learn_time(int64_t not_before) {
  if (clock->behind()) clock->set_floor(not_before);
}

// The server's certificate was valid by our clock: what the clock says is not in the future.
void Agent::Impl::believe_time() {
  const int64_t now = clock->now();
  if (!clock->behind()) clock->set_floor(now);
  if (clock->behind())
    parts.health.report("clock", HealthState::degraded, "the system's clock stands before the last known good time");
  else
    parts.health.report("clock", HealthState::ok);
  if (now - time_saved < kTimeSavedEveryS) return;
  time_saved = now;
  writer->save_time(now);
}

void Agent::Impl::on_connection_refused(const wire::Peer& peer, const Error& why) {
  parts.log.from_stranger(
      LogLevel::warn, "A Workload API connection was refused",
      {{"pid", peer.credentials ? std::to_string(peer.credentials->pid) : "unknown"}, {"error", why.text()}});
}

}  // namespace limpet::agent
