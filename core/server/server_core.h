// SPDX-License-Identifier: Apache-2.0
#pragma once
// The server without its sockets: every part wired together, and the services for each of the two listeners. Runs on
// any loop, so that tests drive it on a fake one. Owned by Server; loop thread only.

#include <memory>
#include <string>
#include <vector>

#include "loop/backoff.h"
#include "server/agent_api.h"
#include "server/agent_pruner.h"
#include "server/authorization.h"
#include "server/bundle_api.h"
#include "server/bundle_poller.h"
#include "server/bundle_publishers.h"
#include "server/context.h"
#include "server/debug_api.h"
#include "server/enrollment_api.h"
#include "server/entry_api.h"
#include "server/local_authority_api.h"
#include "server/logger_api.h"
#include "server/plugin_facts.h"
#include "server/pruner.h"
#include "server/server.h"
#include "server/server_svid.h"
#include "server/svid_api.h"
#include "server/tls_policy.h"
#include "server/trust_domain_api.h"
#include "server/unimplemented.h"
#include "server/upstream_follower.h"
#include "wire/grpc_server.h"
#include "wire/health_service.h"

namespace limpet::server {

class ServerCore {
 public:
  // INVALID_ARGUMENT: trust domain or key type of the configuration; FAILED_PRECONDITION: the state of another trust
  // domain.
  static Result<std::unique_ptr<ServerCore>> make(Loop& loop, const ServerParts& parts, const ServerConfig& config);
  ServerCore(const ServerCore&) = delete;
  ServerCore& operator=(const ServerCore&) = delete;

  // Answers once there is a CA and a server SVID. A key manager or disk that is away is waited for, told in health
  // under the part that waits (`ca`, `jwt_key`, `svid`); an error means that something is configured wrongly.
  void start(Done<void> done);
  // From now on no error ends the start: each is told in health and tried again.
  void hold_on() { holding_on_ = true; }
  // The services of the TCP listener; with `local` those of the Unix socket as well.
  void add_services(wire::GrpcServer& server, bool local);
  [[nodiscard]] wire::TlsPolicy& tls() { return tls_policy_; }
  // What `make` was given has changed: hands on what parts have copied of it.
  void on_config_changed();
  // The gate in front of an API, for tests: "spire.api.server.agent.v1.Agent".
  [[nodiscard]] wire::Service* service(std::string_view name);
  [[nodiscard]] X509Ca& ca() { return ca_; }
  [[nodiscard]] JwtKeys* jwt() { return jwt_.get(); }
  [[nodiscard]] BundleCache& bundles() { return bundles_; }
  [[nodiscard]] EntryIndex& index() { return index_; }
  [[nodiscard]] BundlePoller& poller() { return poller_; }

 private:
  ServerCore(Loop& loop, const ServerParts& parts, const ServerConfig& config, TrustDomain trust_domain,
             CaOptions options, JwtKeyOptions jwt_options);
  enum class Step { ca, jwt_key, svid, done };  // of the start, in this order
  void begin_step();
  void on_step(Result<void> taken);
  void wait(const Error& why);
  void on_ready();
  [[nodiscard]] bool passes(const Error& why) const;
  void on_tick();
  void count_held(Metrics& metrics);
  [[nodiscard]] std::vector<Health::Fact> facts() const;
  [[nodiscard]] wire::ServingStatus serving(std::string_view service) const;

  Health& health_;
  AgentTable agents_;
  EntryTable entries_;
  EntryIndex index_;
  BundleCache bundles_;
  RateLimits limits_;
  X509Ca ca_;
  UpstreamFollower upstream_;
  BundlePublishers publishers_;
  std::unique_ptr<JwtKeys> jwt_;  // null: disable_jwt_svids
  ServerSvid svid_;
  IdentityPublisher identity_;
  ServerTlsPolicy tls_policy_;
  Pruner pruner_;
  AgentPruner agent_pruner_;
  Context context_;
  AgentApi agent_api_;
  EntryApi entry_api_;
  SvidApi svid_api_;
  BundleApi bundle_api_;
  DebugApi debug_api_;
  EnrollmentApi enrollment_api_;
  LoggerApi logger_api_;
  BundlePoller poller_;
  TrustDomainApi trust_domain_api_;
  LocalAuthorityApi local_authority_api_;
  struct Gate {
    const char* name;
    bool local_only;
    GatedService service;
  };
  std::vector<Gate> gates_;
  wire::HealthService health_service_;
  bool was_serving_ = false;
  bool was_read_only_ = false;
  Timer tick_;
  Step step_ = Step::ca;
  bool holding_on_ = false;
  std::string waits_for_;  // as logged last; empty: it does not wait
  Backoff pauses_{1'000, 60'000};
  Timer again_;
  Pending<void> step_taken_;
  Done<void> started_;
};

}  // namespace limpet::server
