// SPDX-License-Identifier: Apache-2.0
#include "config/keys.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace limpet {
namespace {

constexpr std::string_view kLogLevels =
    "panic|fatal|error|warn|warning|info|debug|trace|"
    "PANIC|FATAL|ERROR|WARN|WARNING|INFO|DEBUG|TRACE";
constexpr std::string_view kCaKeyTypes = "ec-p256|ec-p384|rsa-2048|rsa-4096";
constexpr std::string_view kJwtKeyTypes = "ec-p256|ec-p384|rsa-2048|rsa-4096|";  // empty: as ca_key_type
constexpr std::string_view kWorkloadKeyTypes = "ec-p256|ec-p384|rsa-2048";
constexpr int64_t kYear = 366 * 24 * 3600;
constexpr int64_t kPortMax = 65'535;
constexpr int64_t kRateMax = 1'000'000;

// clang-format off: one row a key
#define AT(S, path) [](void* config) -> void* { return &static_cast<S*>(config)->path; }

// The keys that every role has.
#define COMMON_KEYS(S)                                                                                         \
  {"", "log_level", ValueKind::text, AT(S, log.level), kLogLevels},                                            \
      {"", "log_format", ValueKind::text, AT(S, log.format), "text|json"},                                     \
      {"", "log_file", ValueKind::text, AT(S, log.file)},                                                      \
      {"", "log_source_location", ValueKind::boolean, AT(S, log.source_location)},                             \
      {"health_checks", "listener_enabled", ValueKind::boolean, AT(S, health_checks.listener_enabled)},        \
      {"health_checks", "bind_address", ValueKind::text, AT(S, health_checks.bind_address)},                   \
      {"health_checks", "bind_port", ValueKind::port, AT(S, health_checks.bind_port), {}, false, 1, kPortMax}, \
      {"health_checks", "live_path", ValueKind::text, AT(S, health_checks.live_path)},                         \
      {"health_checks", "ready_path", ValueKind::text, AT(S, health_checks.ready_path)},                       \
      {"telemetry", "MetricPrefix", ValueKind::text, AT(S, telemetry.metric_prefix)},                          \
      {"telemetry", "EnableTrustDomainLabel", ValueKind::boolean, AT(S, telemetry.enable_trust_domain_label)}, \
      {"telemetry", "EnableHostnameLabel", ValueKind::boolean, AT(S, telemetry.enable_hostname_label)},        \
      {"telemetry.Prometheus", "host", ValueKind::text, AT(S, telemetry.prometheus_host)}, {                   \
    "telemetry.Prometheus", "port", ValueKind::port, AT(S, telemetry.prometheus_port), {}, false, 0, kPortMax  \
  }

constexpr Key kServer[] = {
    {"", "bind_address", ValueKind::text, AT(ServerConfig, bind_address)},
    {"", "bind_port", ValueKind::port, AT(ServerConfig, bind_port), {}, false, 1, kPortMax},
    {"", "socket_path", ValueKind::text, AT(ServerConfig, socket_path)},
    {"", "trust_domain", ValueKind::text, AT(ServerConfig, trust_domain), {}, true},
    {"", "data_dir", ValueKind::text, AT(ServerConfig, data_dir), {}, true},
    {"", "ca_key_type", ValueKind::text, AT(ServerConfig, ca_key_type), kCaKeyTypes},
    {"", "jwt_key_type", ValueKind::text, AT(ServerConfig, jwt_key_type), kJwtKeyTypes},
    {"", "jwt_issuer", ValueKind::text, AT(ServerConfig, jwt_issuer)},
    {"", "disable_jwt_svids", ValueKind::boolean, AT(ServerConfig, disable_jwt_svids)},
    {"ca_subject", "country", ValueKind::list, AT(ServerConfig, ca_subject_country)},
    {"ca_subject", "organization", ValueKind::list, AT(ServerConfig, ca_subject_organization)},
    {"ca_subject", "common_name", ValueKind::text, AT(ServerConfig, ca_subject_common_name)},
    {"", "ca_ttl", ValueKind::seconds, AT(ServerConfig, ca_ttl_s), {}, false, 1, 100 * kYear},
    {"", "default_x509_svid_ttl", ValueKind::seconds, AT(ServerConfig, default_x509_svid_ttl_s), {}, false, 1, kYear},
    {"", "default_jwt_svid_ttl", ValueKind::seconds, AT(ServerConfig, default_jwt_svid_ttl_s), {}, false, 1, kYear},
    {"", "agent_ttl", ValueKind::seconds, AT(ServerConfig, agent_ttl_s), {}, false, 0, kYear},
    {"", "admin_ids", ValueKind::list, AT(ServerConfig, admin_ids)},
    {"", "audit_log_enabled", ValueKind::boolean, AT(ServerConfig, audit_log_enabled)},
    {"", "proxy_protocol_trusted_cidrs", ValueKind::list, AT(ServerConfig, proxy_protocol_trusted_cidrs)},
    {"", "prune_attested_nodes_expired_for", ValueKind::seconds, AT(ServerConfig, prune_attested_nodes_expired_for_s), {},
     false, 0, 100 * kYear},
    {"", "prune_attested_nodes_batch_size", ValueKind::integer, AT(ServerConfig, prune_attested_nodes_batch_size), {},
     false, 1, 10'000},
    {"", "prune_tofu_nodes", ValueKind::boolean, AT(ServerConfig, prune_tofu_nodes)},
    {"ratelimit", "attestation", ValueKind::boolean, AT(ServerConfig, ratelimit_attestation)},
    {"ratelimit", "signing", ValueKind::boolean, AT(ServerConfig, ratelimit_signing)},
    {"experimental", "agent_spiffe_id_as_selector", ValueKind::boolean, AT(ServerConfig, agent_spiffe_id_as_selector)},
    {"experimental", "max_connection_age", ValueKind::seconds, AT(ServerConfig, max_connection_age_s), {}, false, 1,
     kYear},
    {"oidc_discovery", "domains", ValueKind::list, AT(ServerConfig, oidc_discovery.domains)},
    {"oidc_discovery", "bind_address", ValueKind::text, AT(ServerConfig, oidc_discovery.bind_address)},
    {"oidc_discovery", "bind_port", ValueKind::port, AT(ServerConfig, oidc_discovery.bind_port), {}, false, 0, kPortMax},
    {"oidc_discovery", "socket_path", ValueKind::text, AT(ServerConfig, oidc_discovery.socket_path)},
    {"oidc_discovery", "cert_file_path", ValueKind::text, AT(ServerConfig, oidc_discovery.cert_file_path)},
    {"oidc_discovery", "key_file_path", ValueKind::text, AT(ServerConfig, oidc_discovery.key_file_path)},
    {"oidc_discovery", "file_sync_interval", ValueKind::seconds, AT(ServerConfig, oidc_discovery.file_sync_interval_s),
     {}, false, 1, 7 * 24 * 3600},
    {"oidc_discovery", "server_path_prefix", ValueKind::text, AT(ServerConfig, oidc_discovery.server_path_prefix)},
    {"oidc_discovery", "jwks_uri", ValueKind::text, AT(ServerConfig, oidc_discovery.jwks_uri)},
    {"oidc_discovery", "set_key_use", ValueKind::boolean, AT(ServerConfig, oidc_discovery.set_key_use)},
    {"oidc_discovery", "allow_insecure_scheme", ValueKind::boolean,
     AT(ServerConfig, oidc_discovery.allow_insecure_scheme)},
    COMMON_KEYS(ServerConfig),
};

constexpr Key kAgent[] = {
    {"", "server_address", ValueKind::text, AT(AgentConfig, server_address), {}, true},
    {"", "server_port", ValueKind::port, AT(AgentConfig, server_port), {}, true, 1, kPortMax},
    {"", "trust_domain", ValueKind::text, AT(AgentConfig, trust_domain), {}, true},
    {"", "data_dir", ValueKind::text, AT(AgentConfig, data_dir)},
    {"", "socket_path", ValueKind::text, AT(AgentConfig, socket_path)},
    {"", "admin_socket_path", ValueKind::text, AT(AgentConfig, admin_socket_path)},
    {"", "trust_bundle_path", ValueKind::text, AT(AgentConfig, trust_bundle_path)},
    {"", "trust_bundle_format", ValueKind::text, AT(AgentConfig, trust_bundle_format), "pem|spiffe"},
    {"", "trust_bundle_url", ValueKind::text, AT(AgentConfig, trust_bundle_url)},
    {"", "trust_bundle_unix_socket", ValueKind::text, AT(AgentConfig, trust_bundle_unix_socket)},
    {"", "rebootstrap_mode", ValueKind::text, AT(AgentConfig, rebootstrap_mode), "never|auto|always"},
    {"", "rebootstrap_delay", ValueKind::seconds, AT(AgentConfig, rebootstrap_delay_s), {}, false, 0, kYear},
    {"", "insecure_bootstrap", ValueKind::boolean, AT(AgentConfig, insecure_bootstrap)},
    {"", "join_token", ValueKind::text, AT(AgentConfig, join_token)},
    {"", "join_token_file", ValueKind::text, AT(AgentConfig, join_token_file)},
    {"", "workload_x509_svid_key_type", ValueKind::text, AT(AgentConfig, workload_x509_svid_key_type),
     kWorkloadKeyTypes},
    {"",
     "x509_svid_cache_max_size",
     ValueKind::integer,
     AT(AgentConfig, x509_svid_cache_max_size),
     {},
     false,
     1,
     1'000'000},
    {"", "jwt_svid_cache_max_size", ValueKind::integer, AT(AgentConfig, jwt_svid_cache_max_size), {}, false, 1, 1'000'000},
    {"", "allowed_foreign_jwt_claims", ValueKind::list, AT(AgentConfig, allowed_foreign_jwt_claims)},
    {"experimental", "jwt_svid_cache_hit_timeout", ValueKind::seconds, AT(AgentConfig, jwt_svid_cache_hit_timeout_s),
     {}, false, 5, 30},
    {"", "allow_unauthenticated_verifiers", ValueKind::boolean, AT(AgentConfig, allow_unauthenticated_verifiers)},
    {"", "authorized_delegates", ValueKind::list, AT(AgentConfig, authorized_delegates)},
    {"", "disable_workload_api", ValueKind::boolean, AT(AgentConfig, disable_workload_api)},
    {"", "disable_sds_api", ValueKind::boolean, AT(AgentConfig, disable_sds_api)},
    {"sds", "default_svid_name", ValueKind::text, AT(AgentConfig, sds.default_svid_name)},
    {"sds", "default_bundle_name", ValueKind::text, AT(AgentConfig, sds.default_bundle_name)},
    {"sds", "default_all_bundles_name", ValueKind::text, AT(AgentConfig, sds.default_all_bundles_name)},
    {"sds", "disable_spiffe_cert_validation", ValueKind::boolean, AT(AgentConfig, sds.disable_spiffe_cert_validation)},
    {"experimental",
     "sync_interval",
     ValueKind::seconds,
     AT(AgentConfig, sync_interval_s),
     {},
     false,
     1,
     7 * 24 * 3600},
    {"experimental.ratelimit", "fetch_x509_svid", ValueKind::integer, AT(AgentConfig, ratelimit.fetch_x509_svid), {}, false, 0, kRateMax},
    {"experimental.ratelimit", "fetch_jwt_svid", ValueKind::integer, AT(AgentConfig, ratelimit.fetch_jwt_svid), {}, false, 0, kRateMax},
    {"experimental.ratelimit", "fetch_x509_bundles", ValueKind::integer, AT(AgentConfig, ratelimit.fetch_x509_bundles), {}, false, 0, kRateMax},
    {"experimental.ratelimit", "fetch_jwt_bundles", ValueKind::integer, AT(AgentConfig, ratelimit.fetch_jwt_bundles), {}, false, 0, kRateMax},
    {"experimental.ratelimit", "stream_secrets", ValueKind::integer, AT(AgentConfig, ratelimit.stream_secrets), {}, false, 0, kRateMax},
    {"experimental.ratelimit", "fetch_secrets", ValueKind::integer, AT(AgentConfig, ratelimit.fetch_secrets), {}, false, 0, kRateMax},
    COMMON_KEYS(AgentConfig),
};

constexpr Key kPlugin[] = {
    {"", "type", ValueKind::text, AT(PluginConfig, type),
     "KeyManager|NodeAttestor|WorkloadAttestor|UpstreamAuthority|BundlePublisher|Sealer", true},
    {"", "name", ValueKind::text, AT(PluginConfig, name), {}, true},
    {"", "role", ValueKind::text, AT(PluginConfig, role), "server|agent"},
    {"", "path", ValueKind::text, AT(PluginConfig, path)},
    {"", "sha256", ValueKind::text, AT(PluginConfig, sha256)},
    {"", "enabled", ValueKind::boolean, AT(PluginConfig, enabled)},
    {"", "isolation", ValueKind::text, AT(PluginConfig, isolation), "shim|in-process"},
    {"", "user", ValueKind::text, AT(PluginConfig, user)},
    {"", "network", ValueKind::boolean, AT(PluginConfig, network)},
    {"", "devices", ValueKind::list, AT(PluginConfig, devices)},
    {"", "read_paths", ValueKind::list, AT(PluginConfig, read_paths)},
    {"", "write_paths", ValueKind::list, AT(PluginConfig, write_paths)},
    {"", "require_sandbox", ValueKind::boolean, AT(PluginConfig, require_sandbox)},
};

// clang-format on

// Levenshtein's, with one row of memory.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t change = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({change, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::span<const Key> server_keys() { return kServer; }
std::span<const Key> agent_keys() { return kAgent; }
std::span<const Key> plugin_keys() { return kPlugin; }

bool is_choice(std::string_view choices, std::string_view value) {
  for (size_t at = 0; at <= choices.size();) {
    const size_t end = std::min(choices.find('|', at), choices.size());
    if (choices.substr(at, end - at) == value) return true;
    at = end + 1;
  }
  return choices.empty();
}

std::string choice_list(std::string_view choices) {
  std::string out(choices.substr(0, choices.find("|PANIC")));  // levels are written in any case; once is enough
  for (size_t at = out.find('|'); at != std::string::npos; at = out.find('|', at + 2)) out.replace(at, 1, ", ");
  return out;
}

std::string table_within(std::string_view sub, std::string_view name) {
  return sub.empty() ? std::string(name) : std::string(sub) + "." + std::string(name);
}

bool has_table(std::span<const Key> keys, std::string_view table) {
  return std::ranges::any_of(keys, [table](const Key& key) {
    return key.table.starts_with(table) && (key.table.size() == table.size() || key.table[table.size()] == '.');
  });
}

std::string_view nearest(std::string_view typed, std::span<const std::string_view> known) {
  if (typed.size() > 64) return {};
  std::string_view best;
  size_t distance = std::max<size_t>(2, typed.size() / 3) + 1;
  for (const std::string_view name : known) {
    const size_t d = edit_distance(typed, name);
    if (d < distance) {
      distance = d;
      best = name;
    }
  }
  return best;
}

void Problems::add(Place place, std::string_view what) { lines_.push_back({place, std::string(what)}); }

Error Problems::error() const {
  constexpr size_t kMost = 20;
  std::vector<Line> sorted = lines_;
  std::ranges::stable_sort(sorted, {}, [](const Line& l) { return std::pair(l.place.line, l.place.column); });
  std::string text;
  for (size_t i = 0; i < std::min(sorted.size(), kMost); ++i) {
    if (i > 0) text += '\n';
    text += path_ + ":";
    if (sorted[i].place.line > 0) {
      text += std::to_string(sorted[i].place.line) + ":" + std::to_string(sorted[i].place.column) + ":";
    }
    text += " " + sorted[i].text;
  }
  if (sorted.size() > kMost) text += "\nand " + std::to_string(sorted.size() - kMost) + " more";
  return Error{Code::invalid_argument, std::move(text)};
}

}  // namespace limpet
