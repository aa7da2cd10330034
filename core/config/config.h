// SPDX-License-Identifier: Apache-2.0
#pragma once
// The configuration as typed structs. One TOML file, one [server] and one [agent] table with SPIRE's key names,
// [[plugin]] tables. All keys stand in one table (config/keys.cc) from which reading, checking, defaults and
// `validate`'s effective configuration come. Unknown keys, wrong types and values out of range are errors with line,
// column and the nearest known name. Durations are Go's ("1h30m", "90s"). Plain values.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/federation.h"

namespace limpet {

struct LogConfig {
  std::string level = "INFO";
  std::string format = "text";   // "text" (logfmt) or "json"
  std::string file;              // empty: standard error
  bool source_location = false;  // each record names its place in the source
};

struct HealthChecksConfig {
  bool listener_enabled = false;
  std::string bind_address = "localhost";
  uint16_t bind_port = 80;
  std::string live_path = "/live";
  std::string ready_path = "/ready";
};

// The OpenID Connect discovery documents, for those who verify JWT-SVIDs and know nothing of SPIFFE. On when it has a
// port or a socket. The issuer is the server's jwt_issuer.
struct OidcDiscoveryConfig {
  std::vector<std::string> domains;  // the host names that are answered
  std::string bind_address = "0.0.0.0";
  uint16_t bind_port = 0;      // 0: no TCP
  std::string socket_path;     // plain HTTP for a proxy in front
  std::string cert_file_path;  // with a key: HTTPS; without, the address must be a loopback one
  std::string key_file_path;
  int64_t file_sync_interval_s = 3600;
  std::string server_path_prefix;      // "/x": the documents stand below it
  std::string jwks_uri;                // empty: https://<host><prefix>/keys
  bool set_key_use = false;            // "use": "sig" in each key
  bool allow_insecure_scheme = false;  // name http:// addresses to who asks over plain HTTP
  [[nodiscard]] bool enabled() const { return bind_port != 0 || !socket_path.empty(); }
};

// telemetry = { Prometheus = { host = "localhost", port = 9988 } }, with SPIRE's names.
struct TelemetryConfig {
  std::string prometheus_host = "localhost";
  uint16_t prometheus_port = 0;  // 0: metrics are off
  std::string metric_prefix;     // empty: "spire_server" or "spire_agent"
  bool enable_trust_domain_label = false;
  bool enable_hostname_label = true;
};

struct ServerConfig {
  std::string bind_address = "0.0.0.0";
  uint16_t bind_port = 8081;
  std::string socket_path = "/tmp/spire-server/private/api.sock";
  std::string trust_domain;  // required
  std::string data_dir;      // required
  std::string ca_key_type = "ec-p256";
  std::string jwt_key_type;  // empty: as ca_key_type
  std::string jwt_issuer;    // the claim `iss`; empty: none
  bool disable_jwt_svids = false;
  // ca_subject = { country = [...], organization = [...], common_name = "" }
  std::vector<std::string> ca_subject_country = {"US"};
  std::vector<std::string> ca_subject_organization = {"SPIFFE"};
  std::string ca_subject_common_name;
  int64_t ca_ttl_s = 24 * 3600;
  int64_t default_x509_svid_ttl_s = 3600;
  int64_t default_jwt_svid_ttl_s = 300;
  int64_t agent_ttl_s = 0;  // 0: default_x509_svid_ttl
  std::vector<std::string> admin_ids;
  bool audit_log_enabled = false;
  std::vector<std::string> proxy_protocol_trusted_cidrs;
  int64_t prune_attested_nodes_expired_for_s = 0;  // 0: expired agents stay
  int64_t prune_attested_nodes_batch_size = 1000;
  bool prune_tofu_nodes = false;      // those too that cannot attest again
  bool ratelimit_attestation = true;  // ratelimit = { attestation = true, signing = true }
  bool ratelimit_signing = true;
  bool agent_spiffe_id_as_selector = false;  // experimental = { agent_spiffe_id_as_selector = true }
  int64_t max_connection_age_s = 180;        // experimental = { max_connection_age = "3m" }: SPIRE's, +-10 %
  FederationConfig federation;               // federation = { bundle_endpoint = {...}, federates_with = {...} }
  OidcDiscoveryConfig oidc_discovery;        // oidc_discovery = { domains = [...], ... }
  LogConfig log;                             // log_level, log_format, log_file
  HealthChecksConfig health_checks;
  TelemetryConfig telemetry;
};

// What the names that Envoy asks for by default stand for.
struct SdsConfig {
  std::string default_svid_name = "default";
  std::string default_bundle_name = "ROOTCA";
  std::string default_all_bundles_name = "ALL";
  bool disable_spiffe_cert_validation = false;
};

// Calls a second of callers with the same selectors, each method by itself. 0: no limit.
struct CallRates {
  int64_t fetch_x509_svid = 0;
  int64_t fetch_jwt_svid = 0;
  int64_t fetch_x509_bundles = 0;
  int64_t fetch_jwt_bundles = 0;
  int64_t stream_secrets = 0;
  int64_t fetch_secrets = 0;
};

struct AgentConfig {
  std::string server_address;  // required
  uint16_t server_port = 0;    // required
  std::string trust_domain;    // required
  std::string data_dir = ".";
  std::string socket_path = "/tmp/spire-agent/public/api.sock";
  std::string admin_socket_path;
  std::string trust_bundle_path;
  std::string trust_bundle_format = "pem";  // or "spiffe"
  std::string trust_bundle_url;             // https, or http over trust_bundle_unix_socket
  std::string trust_bundle_unix_socket;
  std::string rebootstrap_mode = "never";  // "auto": where the agent can attest again; "always"
  int64_t rebootstrap_delay_s = 600;
  bool insecure_bootstrap = false;
  std::string join_token;
  std::string join_token_file;
  std::string workload_x509_svid_key_type = "ec-p256";
  int64_t x509_svid_cache_max_size = 1000;
  int64_t jwt_svid_cache_max_size = 1000;
  int64_t jwt_svid_cache_hit_timeout_s = 30;            // experimental = { jwt_svid_cache_hit_timeout = "30s" }
  std::vector<std::string> allowed_foreign_jwt_claims;  // beside sub, exp and aud
  int64_t sync_interval_s = 5;                          // experimental = { sync_interval = "5s" }
  CallRates ratelimit;                                  // experimental = { ratelimit = { fetch_x509_svid = 0, ... } }
  bool allow_unauthenticated_verifiers = false;
  std::vector<std::string> authorized_delegates;  // SPIFFE IDs that may ask for others on the admin socket
  bool disable_workload_api = false;
  bool disable_sds_api = false;
  SdsConfig sds;  // sds = { default_svid_name = "default", ... }
  LogConfig log;
  HealthChecksConfig health_checks;
  TelemetryConfig telemetry;
};

struct PluginConfig {
  std::string type;    // "KeyManager", "NodeAttestor", "WorkloadAttestor", "UpstreamAuthority"
  std::string name;    // "disk", "join_token", "unix"
  std::string role;    // "server", "agent" or empty: every role that has this type
  std::string path;    // of a shared object; empty: built in
  std::string sha256;  // lower-case hex; required with path
  bool enabled = true;
  // Where it runs. Empty: "shim" with a path, else "in-process".
  std::string isolation;                // "shim", "in-process"
  std::string user;                     // of the shim's process; empty: limpet-shim, else nobody
  bool network = false;                 // of the shim's process, like the next four
  std::vector<std::string> devices;     // "/dev/tpmrm0"
  std::vector<std::string> read_paths;  // beside libraries and time zones
  std::vector<std::string> write_paths;
  bool require_sandbox = false;  // a protection that cannot be put up is an error
  std::string data_json = "{}";  // the table `data`, as JSON text for the plugin
  int line = 0;                  // for messages
};

struct Config {
  std::optional<ServerConfig> server;
  std::optional<AgentConfig> agent;
  std::vector<PluginConfig> plugins;
};

// Applied to what the file says before it is judged: a command line's flags may supply what the file leaves out.
using ConfigAdjust = std::function<Result<void>(Config& config)>;
// INVALID_ARGUMENT "<path>:<line>:<column>: unknown key "bind_prot" in [server], did you mean "bind_port"?", one line
// for each mistake in the file.
Result<Config> parse_config(std::string_view toml, std::string_view path, const ConfigAdjust& adjust = {});
// The text of a file, at most one byte more than a configuration may have. NOT_FOUND with the path.
Result<std::string> read_config_file(const std::string& path);
// NOT_FOUND with the path; else as parse_config.
Result<Config> load_config(const std::string& path, const ConfigAdjust& adjust = {});
// The effective configuration, defaults included, as TOML. A join token is a secret: it is printed as "(set)".
std::string config_to_toml(const Config& config);
// "1h30m", "90s", "500ms" (rounded up to a second): Go's syntax. INVALID_ARGUMENT.
Result<int64_t> parse_duration_s(std::string_view text);
Result<int64_t> parse_duration_ms(std::string_view text);

}  // namespace limpet
