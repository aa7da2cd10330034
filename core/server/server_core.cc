// SPDX-License-Identifier: Apache-2.0
#include "server/server_core.h"

#include <algorithm>
#include <cmath>

#include "server/ttl_warnings.h"
#include "store/journal.h"

namespace limpet::server {
namespace {

constexpr int64_t kHealthMs = 1'000;

CaSubject ca_subject(const ServerConfig& config) {
  return {config.ca_subject_country, config.ca_subject_organization, config.ca_subject_common_name};
}

// A CA names its trust domain: state made for another one is neither used nor added to.
Result<void> check_state(const Store& store, const TrustDomain& trust_domain, const std::string& data_dir) {
  auto journal = read_journal(store.read());
  if (!journal) return {};  // the CA says what is wrong with it
  for (const JournalX509Ca& ca : journal->x509_cas) {
    auto certificate = Certificate::parse(ca.certificate);
    if (!certificate || certificate->uris.empty() || certificate->uris.front() == trust_domain.id()) continue;
    return fail(Code::failed_precondition, "data_dir " + data_dir + " holds the state of trust domain \"" +
                                               certificate->uris.front().substr(sizeof "spiffe://" - 1) +
                                               "\", not of \"" + trust_domain.name() +
                                               "\": give each trust domain a data_dir of its own");
  }
  return {};
}

// What the configuration has checked already.
std::vector<FederationRelationship> fixed_relationships(const ServerConfig& config) {
  std::vector<FederationRelationship> out;
  for (const FederatesWithConfig& one : config.federation.federates_with) {
    auto trust_domain = TrustDomain::parse(one.trust_domain);
    if (!trust_domain) continue;
    FederationRelationship relationship{
        std::move(*trust_domain), one.bundle_endpoint_url, BundleProfile::https_web, {}};
    if (one.profile == "https_spiffe") {
      relationship.profile = BundleProfile::https_spiffe;
      if (auto id = SpiffeId::parse(one.endpoint_spiffe_id)) relationship.endpoint_id = std::move(*id);
    }
    out.push_back(std::move(relationship));
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<ServerCore>> ServerCore::make(Loop& loop, const ServerParts& parts, const ServerConfig& config) {
  TRY_ASSIGN_WITHIN("trust_domain", TrustDomain trust_domain, TrustDomain::parse(config.trust_domain));
  TRY(check_state(parts.store, trust_domain, config.data_dir));
  TRY_ASSIGN_WITHIN("ca_key_type", KeyType key_type, parse_key_type(config.ca_key_type));
  KeyType jwt_key_type = key_type;
  if (!config.jwt_key_type.empty()) {
    TRY_ASSIGN_WITHIN("jwt_key_type", jwt_key_type, parse_key_type(config.jwt_key_type));
  }
  CaOptions options{trust_domain, key_type, config.ca_ttl_s, ca_subject(config)};
  JwtKeyOptions jwt_options{jwt_key_type, config.ca_ttl_s, config.jwt_issuer};
  return std::unique_ptr<ServerCore>(
      new ServerCore(loop, parts, config, std::move(trust_domain), std::move(options), std::move(jwt_options)));
}

ServerCore::ServerCore(Loop& loop, const ServerParts& parts, const ServerConfig& config, TrustDomain trust_domain,
                       CaOptions options, JwtKeyOptions jwt_options)
    : health_(parts.health),
      agents_(parts.store.read()),
      entries_(parts.store.read()),
      index_(parts.store, trust_domain),
      bundles_(loop, parts.store, trust_domain),
      limits_(loop, config.ratelimit_attestation, config.ratelimit_signing),
      ca_(loop, parts.clock, parts.logger, parts.health, parts.store, parts.keys, bundles_, std::move(options),
          parts.upstream, parts.metrics),
      upstream_(loop, parts.logger, parts.health, bundles_, ca_, parts.upstream,
                [this](const std::string& left) { svid_.renew_if_issued_by(left); }),
      publishers_(loop, parts.logger, parts.health, parts.store, bundles_, parts.publishers),
      jwt_(config.disable_jwt_svids
               ? nullptr
               : std::make_unique<JwtKeys>(loop, parts.clock, parts.logger, parts.health, parts.store, parts.keys,
                                           bundles_, std::move(jwt_options), parts.upstream, parts.metrics)),
      svid_(loop, parts.clock, parts.logger, parts.health, ca_, trust_domain, config.default_x509_svid_ttl_s,
            parts.metrics),
      identity_(parts.store, bundles_, svid_, parts.identity),
      tls_policy_(parts.clock, svid_, bundles_, trust_domain, config.admin_ids),
      pruner_(loop, parts.clock, parts.logger, parts.store, parts.metrics),
      agent_pruner_(loop, parts.clock, parts.logger, parts.store, config, parts.metrics),
      context_{loop,         parts.clock,     parts.logger, parts.health,  parts.store, agents_,
               entries_,     index_,          bundles_,     ca_,           limits_,     config,
               trust_domain, parts.attestors, jwt_.get(),   parts.upstream},
      agent_api_(context_),
      entry_api_(context_),
      svid_api_(context_),
      bundle_api_(context_),
      debug_api_(context_, svid_),
      enrollment_api_(context_),
      logger_api_(parts.logger),
      poller_({loop, parts.logger, parts.health, parts.store, bundles_, parts.fetcher, parts.metrics},
              fixed_relationships(config)),
      trust_domain_api_(context_, poller_),
      local_authority_api_(context_, svid_),
      health_service_([this](std::string_view service) { return serving(service); }, {}),
      tick_(loop),
      again_(loop) {
  gates_.reserve(10);
  gates_.push_back({"spire.api.server.agent.v1.Agent", false, {context_, agent_api_}});
  gates_.push_back({"spire.api.server.bundle.v1.Bundle", false, {context_, bundle_api_}});
  gates_.push_back({"spire.api.server.entry.v1.Entry", false, {context_, entry_api_}});
  gates_.push_back({"spire.api.server.svid.v1.SVID", false, {context_, svid_api_}});
  gates_.push_back({"spire.api.server.trustdomain.v1.TrustDomain", false, {context_, trust_domain_api_}});
  gates_.push_back({"spire.api.server.localauthority.v1.LocalAuthority", false, {context_, local_authority_api_}});
  gates_.push_back({"limpet.api.enrollment.v1.Enrollment", false, {context_, enrollment_api_}});
  gates_.push_back({"spire.api.server.debug.v1.Debug", true, {context_, debug_api_}});
  gates_.push_back({"spire.api.server.logger.v1.Logger", true, {context_, logger_api_}});
  parts.metrics.before_text([this](Metrics& metrics) { count_held(metrics); });
  parts.health.set_facts([this] { return facts(); });
}

std::vector<Health::Fact> ServerCore::facts() const {
  std::vector<Health::Fact> facts;
  if (const Certificate* ca = ca_.active_certificate()) {
    facts.push_back({"ca_expires", TimeText(ca->not_after).rfc3339()});
    const auto left = static_cast<double>(std::max<int64_t>(ca->not_after - context_.clock.now(), 0));
    facts.push_back({"ca_hours_left", {}, std::floor(left / 360) / 10});
  }
  if (const Certificate* svid = svid_.certificate())
    facts.push_back({"svid_expires", TimeText(svid->not_after).rfc3339()});
  return facts;
}

// What the server holds, under the names of the caches that SPIRE holds it in.
void ServerCore::count_held(Metrics& metrics) {
  const Snapshot snapshot = context_.store.read();
  metrics.gauge("node_agents_by_id_cache_count", static_cast<double>(snapshot.count(TableId::agents)));
  metrics.gauge("entry_entries_by_entryid_cache_count", static_cast<double>(snapshot.count(TableId::entries)));
  const Certificate* ca = ca_.active_certificate();
  if (ca == nullptr) return;
  const std::string& name = context_.trust_domain.name();
  metrics.gauge("manager_x509_ca_rotate_expiration", static_cast<double>(ca->not_after), {{"trust_domain_id", name}});
  metrics.gauge("manager_x509_ca_rotate_ttl", static_cast<double>(ca->not_after - context_.clock.now()),
                {{"trust_domain_id", name}});
}

void ServerCore::start(Done<void> done) {
  started_ = std::move(done);
  if (!index_.damage().empty()) context_.logger.error("Some entries cannot be read", {{"error", index_.damage()}});
  if (!bundles_.damage().empty()) context_.logger.error("Some bundles cannot be read", {{"error", bundles_.damage()}});
  for (const std::string& warning : ttl_warnings(context_.config)) context_.logger.warn(warning, {});
  upstream_.start();
  publishers_.start();
  on_tick();
  for (const char* part : {"ca", "svid"}) health_.report(part, HealthState::starting, "not there yet");
  if (jwt_ != nullptr) health_.report("jwt_key", HealthState::starting, "not there yet");
  begin_step();
}

void ServerCore::begin_step() {
  switch (step_) {
    case Step::ca:
      return ca_.start(step_taken_.then<&ServerCore::on_step>(this));
    case Step::jwt_key:
      return jwt_ == nullptr ? on_step({}) : jwt_->start(step_taken_.then<&ServerCore::on_step>(this));
    case Step::svid:
      return svid_.start(step_taken_.then<&ServerCore::on_step>(this));
    case Step::done:
      return on_ready();
  }
}

void ServerCore::on_step(Result<void> taken) {
  if (!taken && !passes(taken.error())) return started_(std::move(taken));
  if (!taken) return wait(taken.error());
  waits_for_.clear();
  pauses_.reset();
  step_ = static_cast<Step>(static_cast<int>(step_) + 1);
  begin_step();
}

// Whether the next attempt may go better: a key manager that is away or was given a wrong PIN, a disk that is full.
// With a CA and a JWT key there is nothing left that the configuration could be to blame for: a lost key is replaced.
bool ServerCore::passes(const Error& why) const {
  switch (why.code) {
    case Code::unavailable:
    case Code::deadline_exceeded:
    case Code::permission_denied:
    case Code::resource_exhausted:
    case Code::aborted:
      return true;
    default:
      return holding_on_ || step_ == Step::svid;
  }
}

// Said once for each reason, not at each attempt.
void ServerCore::wait(const Error& why) {
  constexpr const char* kParts[] = {"ca", "jwt_key", "svid"};
  constexpr const char* kNames[] = {"X.509 CA", "JWT key", "X509-SVID"};
  const auto at = static_cast<size_t>(step_);
  health_.report(kParts[at], HealthState::starting,
                 std::string("the server has no ") + kNames[at] + " yet: " + why.message);
  if (why.text() != waits_for_) {
    waits_for_ = why.text();
    context_.logger.error(
        "The server cannot sign yet, trying again; what is named here comes back or is mended, no "
        "restart is needed",
        {{"waits_for", kNames[at]}, {"error", waits_for_}});
  }
  again_.start<&ServerCore::begin_step>(pauses_.pause(), this);
}

void ServerCore::on_ready() {
  pruner_.start();
  agent_pruner_.start();
  poller_.start();
  identity_.look_at_svid();
  started_({});
}

void ServerCore::add_services(wire::GrpcServer& server, bool local) {
  for (Gate& gate : gates_) {
    if (local || !gate.local_only) server.add(gate.name, gate.service);
  }
  if (local) server.add(wire::kHealthServiceName, health_service_);
}

wire::Service* ServerCore::service(std::string_view name) {
  for (Gate& gate : gates_) {
    if (name == gate.name) return &gate.service;
  }
  return nullptr;
}

void ServerCore::on_config_changed() {
  const ServerConfig& config = context_.config;
  limits_.set(config.ratelimit_attestation, config.ratelimit_signing);
  tls_policy_.set_admin_ids(config.admin_ids);
  svid_.set_ttl(config.default_x509_svid_ttl_s);
  poller_.set_fixed(fixed_relationships(config));
  for (const std::string& warning : ttl_warnings(config)) context_.logger.warn(warning, {});
}

// Health has no one to tell when it changes, so the watchers of the health service are served by looking once a second.
void ServerCore::on_tick() {
  tick_.start<&ServerCore::on_tick>(kHealthMs, this);
  identity_.look_at_svid();
  if (bool read_only = context_.store.read_only(); read_only != was_read_only_) {
    was_read_only_ = read_only;
    health_.report("store", read_only ? HealthState::degraded : HealthState::ok,
                   read_only ? "the last write failed: the disk is full or read-only" : "");
  }
  if (was_serving_ == health_.serving()) return;
  was_serving_ = !was_serving_;
  health_service_.changed();
}

wire::ServingStatus ServerCore::serving(std::string_view service) const {
  if (!service.empty()) return wire::ServingStatus::service_unknown;
  return health_.serving() ? wire::ServingStatus::serving : wire::ServingStatus::not_serving;
}

}  // namespace limpet::server
