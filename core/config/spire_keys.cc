// SPDX-License-Identifier: Apache-2.0
#include "config/spire_keys.h"

namespace limpet {
namespace {

constexpr std::string_view kNotHere = "this version has no counterpart";
constexpr std::string_view kProfiling = "there is no Go runtime to profile: use perf";
constexpr std::string_view kCache = "entries are kept current by each change, there is nothing to reload";
constexpr std::string_view kSqlEvents = "caches follow the change log of the store, there are no events to tune";
constexpr std::string_view kPull = "metrics are asked for, not sent: telemetry.Prometheus is the one way";
constexpr std::string_view kRelabel = "choose metrics where they are collected (metric_relabel_configs)";
constexpr std::string_view kCloud = "a plugin for this cloud is not part of Limpet";
constexpr std::string_view kKubernetes = "a plugin for Kubernetes is not part of Limpet";
constexpr std::string_view kWindows = "Windows only";

constexpr SpireKey kKeys[] = {
    {"", "", "profiling_enabled", kProfiling},
    {"", "", "profiling_port", kProfiling},
    {"", "", "profiling_freq", kProfiling},
    {"", "", "profiling_names", kProfiling},
    {"", "experimental", "named_pipe_name", kWindows},
    {"", "experimental", "feature_flags", "there are no feature flags"},
    {"", "experimental", "require_pq_kem", "TLS here has no post-quantum key exchange"},
    {"", "telemetry", "InMem", kPull},
    {"", "telemetry", "Statsd", kPull},
    {"", "telemetry", "DogStatsd", kPull},
    {"", "telemetry", "M3", kPull},
    {"", "telemetry", "AllowedPrefixes", kRelabel},
    {"", "telemetry", "BlockedPrefixes", kRelabel},
    {"", "telemetry", "AllowedLabels", kRelabel},
    {"", "telemetry", "BlockedLabels", kRelabel},
    {"", "telemetry.Prometheus", "tls",
     "metrics are served as plain HTTP: keep them on localhost or put a proxy before them"},
    {"server", "", "max_attested_node_info_staleness", "agents are looked up in memory: the answer is never stale"},
    {"server", "experimental", "cache_reload_interval", kCache},
    {"server", "experimental", "full_cache_reload_interval", kCache},
    {"server", "experimental", "events_based_cache", kSqlEvents},
    {"server", "experimental", "prune_events_older_than", kSqlEvents},
    {"server", "experimental", "event_timeout", kSqlEvents},
    {"server", "experimental", "sql_transaction_timeout", kSqlEvents},
    {"server", "experimental", "auth_opa_policy_engine",
     "who may call what is fixed, as SPIRE's built-in policy has it"},
    {"server", "experimental", "wit_key_type", "WIT-SVIDs are not issued"},
    {"server", "experimental", "wit_issuer", "WIT-SVIDs are not issued"},
    {"agent", "", "trust_bundle_spiffe_workload_api", "write the bundle to a file and name it in trust_bundle_path"},
    {"agent", "", "availability_target", kNotHere},
    {"agent", "", "log_selectors", kNotHere},
    {"agent", "experimental", "use_sync_authorized_entries", "the agent finds out what its server can do"},
    {"agent", "experimental", "broker", "the broker API is not part of Limpet"},
    {"agent", "experimental", "admin_named_pipe_name", kWindows},
};

constexpr SpirePlugin kPlugins[] = {
    {"DataStore", "",
     "state is kept in an LMDB file in data_dir; entries are moved with `entry show` and `entry create`"},
    {"BundlePublisher", "",
     "none of SPIRE's bundle publishers is part of Limpet: use the bundle endpoint, or a plugin of your own"},
    {"Notifier", "", "there are no notifiers"},
    {"CredentialComposer", "", "there are no credential composers"},
    {"SVIDStore", "", "there are no SVID stores"},
    {"KeyManager", "aws_kms", kCloud},
    {"KeyManager", "azure_key_vault", kCloud},
    {"KeyManager", "gcp_kms", kCloud},
    {"KeyManager", "hashicorp_vault", "a plugin for Vault is not part of Limpet"},
    {"NodeAttestor", "k8s_psat", kKubernetes},
    {"NodeAttestor", "aws_iid", kCloud},
    {"NodeAttestor", "azure_imds", kCloud},
    {"NodeAttestor", "azure_msi", kCloud},
    {"NodeAttestor", "gcp_iit", kCloud},
    {"UpstreamAuthority", "vault", "a plugin for Vault is not part of Limpet"},
    {"UpstreamAuthority", "ejbca", "a plugin for EJBCA is not part of Limpet"},
    {"UpstreamAuthority", "cert-manager", kKubernetes},
    {"UpstreamAuthority", "aws_pca", kCloud},
    {"UpstreamAuthority", "awssecret", kCloud},
    {"UpstreamAuthority", "gcp_cas", kCloud},
    {"WorkloadAttestor", "k8s", kKubernetes},
    {"WorkloadAttestor", "docker", "a plugin for Docker is not part of Limpet"},
    {"WorkloadAttestor", "slurm", "a plugin for Slurm is not part of Limpet"},
    {"WorkloadAttestor", "windows", kWindows},
};

constexpr LoadablePlugin kLoadable[] = {
    {"WorkloadAttestor", "systemd", "workload_attestor_systemd.so"},
    {"NodeAttestor", "tpm_devid", "node_attestor_tpm_devid.so"},
};

}  // namespace

std::span<const SpireKey> spire_keys() { return kKeys; }
std::span<const SpirePlugin> spire_plugins() { return kPlugins; }
std::span<const LoadablePlugin> loadable_plugins() { return kLoadable; }

}  // namespace limpet
