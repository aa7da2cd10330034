// SPDX-License-Identifier: Apache-2.0
#include "config/reload.h"

#include <algorithm>
#include <array>

#include "config/federation_read.h"
#include "config/keys.h"

namespace limpet {
namespace {

constexpr std::array<std::string_view, 11> kServerLive = {"log_level",
                                                          "audit_log_enabled",
                                                          "admin_ids",
                                                          "agent_ttl",
                                                          "default_x509_svid_ttl",
                                                          "default_jwt_svid_ttl",
                                                          "ratelimit.signing",
                                                          "ratelimit.attestation",
                                                          "prune_attested_nodes_expired_for",
                                                          "prune_attested_nodes_batch_size",
                                                          "prune_tofu_nodes"};
constexpr std::array<std::string_view, 2> kAgentLive = {"log_level", "experimental.sync_interval"};

template <class T>
bool take(void* running, const void* next, bool live) {
  T& old = *static_cast<T*>(running);
  const T& fresh = *static_cast<const T*>(next);
  if (old == fresh) return false;
  if (live) old = fresh;
  return true;
}

// True: the two differ. `live`: and the first is now as the second.
bool differs(const Key& key, void* running, void* next, bool live) {
  void* old = key.at(running);
  const void* fresh = key.at(next);
  switch (key.kind) {
    case ValueKind::text:
      return take<std::string>(old, fresh, live);
    case ValueKind::boolean:
      return take<bool>(old, fresh, live);
    case ValueKind::port:
      return take<uint16_t>(old, fresh, live);
    case ValueKind::integer:
    case ValueKind::seconds:
      return take<int64_t>(old, fresh, live);
    case ValueKind::list:
      return take<std::vector<std::string>>(old, fresh, live);
  }
  return false;
}

ReloadedKeys reload_keys(std::span<const Key> keys, std::span<const std::string_view> live_names, void* running,
                         void* next) {
  ReloadedKeys out;
  for (const Key& key : keys) {
    const std::string name = table_within(key.table, key.name);
    const bool live = std::ranges::find(live_names, name) != live_names.end();
    if (differs(key, running, next, live)) (live ? out.taken : out.refused).push_back(name);
  }
  return out;
}

std::string text_of(const FederationConfig& config, bool endpoint) {
  FederationConfig part = config;
  if (endpoint) {
    part.federates_with.clear();
  } else {
    part.bundle_endpoint.reset();
  }
  return federation_to_toml(part);
}

}  // namespace

ReloadedKeys reload(ServerConfig& running, const ServerConfig& next) {
  ServerConfig copy = next;
  ReloadedKeys out = reload_keys(server_keys(), kServerLive, &running, &copy);
  if (text_of(running.federation, true) != text_of(next.federation, true))
    out.refused.emplace_back("federation.bundle_endpoint");
  if (text_of(running.federation, false) != text_of(next.federation, false)) {
    out.taken.emplace_back("federation.federates_with");
    running.federation.federates_with = next.federation.federates_with;
  }
  return out;
}

ReloadedKeys reload(AgentConfig& running, const AgentConfig& next) {
  AgentConfig copy = next;
  return reload_keys(agent_keys(), kAgentLive, &running, &copy);
}

bool same_plugins(const std::vector<PluginConfig>& running, const std::vector<PluginConfig>& next) {
  return std::ranges::equal(running, next, [](const PluginConfig& a, const PluginConfig& b) {
    return a.type == b.type && a.name == b.name && a.role == b.role && a.path == b.path && a.sha256 == b.sha256 &&
           a.enabled == b.enabled && a.isolation == b.isolation && a.user == b.user && a.network == b.network &&
           a.devices == b.devices && a.read_paths == b.read_paths && a.write_paths == b.write_paths &&
           a.require_sandbox == b.require_sandbox && a.data_json == b.data_json;
  });
}

}  // namespace limpet
