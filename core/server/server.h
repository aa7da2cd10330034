// SPDX-License-Identifier: Apache-2.0
#pragma once
// The server role: certificate authority, registration, attestation and the APIs on their two listeners. main (or a
// test) builds it from the parts it does not own, starts it and stops it. Loop thread only.

#include <memory>
#include <vector>

#include "base/clock.h"
#include "config/config.h"
#include "loop/uv_loop.h"
#include "plugin/attestor.h"
#include "plugin/bundle_publisher.h"
#include "plugin/key_manager.h"
#include "plugin/server_facts.h"
#include "plugin/upstream_authority.h"
#include "report/health.h"
#include "report/log.h"
#include "report/metrics.h"
#include "server/bundle_fetcher.h"
#include "store/store.h"

namespace limpet::server {

class ServerCore;

// Everything outlives the Server.
struct ServerParts {
  const Clock& clock;
  Logger& logger;
  Health& health;
  Store& store;
  KeyManager& keys;
  std::vector<NodeAttestorServer*> attestors;  // all but join_token, which the server has itself
  UpstreamAuthority* upstream = nullptr;       // null: the server signs its own CA
  BundleFetcher* fetcher = nullptr;            // of tests; null: Server's own, and a ServerCore alone fetches nothing
  IdentityBoard* identity = nullptr;           // for plugins; null: nobody reads it
  Metrics& metrics = Metrics::none();
  std::vector<BundlePublisher*> publishers = {};
};

class Server {
 public:
  Server(UvLoop& loop, ServerParts parts, ServerConfig config);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Answers once the server serves, or after 5 s without: then what it waits for (an HSM, a TPM, an upstream authority)
  // stands in health, the Unix socket and the endpoints that need no SVID are open, and the rest opens by itself when
  // the CA and the SVID are there. An error names what failed (trust domain, key manager, port or socket) and leaves
  // nothing open.
  void start(Done<void> done);
  // Lets calls in flight end, for at most 10 s, then closes.
  void stop(Done<void> done);
  // Takes over what may change while it runs.
  void reload(const ServerConfig& next);
  // The TCP port in use, for configurations with port 0.
  [[nodiscard]] uint16_t port() const;

 private:
  struct Listeners;
  void on_core_started(Result<void> started);
  void on_patience();
  void open_rest();
  Result<void> open_local();
  Result<void> open_remote();
  Result<void> open_tcp();
  Result<void> open_bundle_endpoint(const BundleEndpointConfig& config);
  Result<void> open_oidc_discovery(const OidcDiscoveryConfig& config);
  void on_tcp_stopped(Result<void>);
  void on_uds_stopped(Result<void>);

  UvLoop& loop_;
  ServerConfig config_;
  ServerParts parts_;
  std::unique_ptr<BundleFetcher> fetcher_;
  std::unique_ptr<ServerCore> core_;
  std::unique_ptr<Listeners> listeners_;
  Timer patience_;        // until start() answers; then, until the ports that were taken are open
  std::string not_open_;  // why the listeners for others are not open yet, as logged last
  Pending<void> core_started_;
  Pending<void> tcp_stopped_;
  Pending<void> uds_stopped_;
  Done<void> started_;
  Done<void> stopped_;
};

}  // namespace limpet::server
