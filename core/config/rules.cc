// SPDX-License-Identifier: Apache-2.0
// Rules over several keys, and the grammar of values that are more than text.
#include <sys/un.h>

#include <algorithm>
#include <set>

#include "base/ip_range.h"
#include "config/keys.h"
#include "spiffe/id.h"

namespace limpet {
namespace {

class Rules {
 public:
  Rules(const Places& places, Problems& problems) : places_(places), problems_(problems) {}

  void server(ServerConfig c) {
    require("server", "[server]", server_keys(), &c);
    trust_domain("server", c.trust_domain);
    socket_path("server", "socket_path", c.socket_path);
    for (const std::string& id : c.admin_ids) {
      if (auto parsed = SpiffeId::parse(id); !parsed) {
        at("server.admin_ids", "\"" + id + "\" in \"admin_ids\" is not a SPIFFE ID: " + parsed.error().message);
      }
    }
    for (const std::string& cidr : c.proxy_protocol_trusted_cidrs) {
      if (const auto range = IpRange::parse(cidr); !range) {
        at("server.proxy_protocol_trusted_cidrs",
           "\"" + cidr + "\" in \"proxy_protocol_trusted_cidrs\" is no range of addresses: " + range.error().message);
      }
    }
    for (const std::string& country : c.ca_subject_country) {
      if (country.size() != 2)
        at("server.ca_subject.country", "\"country\" has \"" + country + "\"; two letters are expected");
    }
    health("server", c.health_checks);
    for (const auto& [key, what] : oidc_mistakes(c)) at("server." + key, what);
    if (!c.oidc_discovery.socket_path.empty()) {
      socket_path("server", "oidc_discovery.socket_path", c.oidc_discovery.socket_path);
    }
    telemetry("server", c.telemetry);
  }

  void agent(AgentConfig c) {
    require("agent", "[agent]", agent_keys(), &c);
    trust_domain("agent", c.trust_domain);
    socket_path("agent", "socket_path", c.socket_path);
    if (!c.admin_socket_path.empty()) admin_socket(c);
    delegates(c);
    bootstrap(c);
    if (!c.join_token.empty() && !c.join_token_file.empty()) {
      at("agent.join_token_file", "\"join_token\" and \"join_token_file\" exclude each other: keep one");
    }
    health("agent", c.health_checks);
    telemetry("agent", c.telemetry);
  }

  void plugins(std::vector<PluginConfig> plugins) {
    std::set<std::string> seen;
    for (size_t i = 0; i < plugins.size(); ++i) {
      PluginConfig& p = plugins[i];
      const std::string table = "plugin." + std::to_string(i);
      require(table, "[[plugin]]", plugin_keys(), &p);
      if (!p.path.empty()) shared_object(table, p);
      if (p.path.empty() && !p.sha256.empty())
        at(table + ".sha256", "\"sha256\" needs \"path\": a built-in plugin has no file");
      isolation(table, p);
      for (const char* role : {"server", "agent"}) {
        if (!p.enabled || (!p.role.empty() && p.role != role)) continue;
        if (seen.insert(p.type + " " + p.name + " " + role).second) continue;
        at(table, "plugin " + p.type + " \"" + p.name + "\" is configured twice for the role " + role);
        break;
      }
    }
  }

 private:
  void at(const std::string& key, std::string_view what) {
    const auto found = places_.find(key);
    problems_.add(found == places_.end() ? table_of(key) : found->second, what);
  }
  // A key that keeps its default has no place of its own; its table has.
  Place table_of(const std::string& key) const {
    const auto found = places_.find(key.substr(0, key.rfind('.')));
    return found == places_.end() ? Place{} : found->second;
  }

  // Required keys are texts and ports, whose defaults are empty and 0.
  void require(const std::string& table, const std::string& shown, std::span<const Key> keys, void* config) {
    for (const Key& key : keys) {
      if (!key.required) continue;
      const void* member = key.at(config);
      const bool missing = key.kind == ValueKind::port ? *static_cast<const uint16_t*>(member) == 0
                                                       : static_cast<const std::string*>(member)->empty();
      if (missing) at(table + "." + std::string(key.name), "\"" + std::string(key.name) + "\" is required in " + shown);
    }
  }

  void trust_domain(const std::string& table, const std::string& name) {
    if (name.empty()) return;  // a missing key is named already
    if (auto parsed = TrustDomain::parse(name); !parsed) {
      at(table + ".trust_domain", "\"trust_domain\" is \"" + name + "\": " + parsed.error().message);
    }
  }

  void socket_path(const std::string& table, const std::string& key, const std::string& path) {
    constexpr size_t kMost = sizeof(sockaddr_un{}.sun_path) - 1;
    const std::string full = table + "." + key;
    if (path.empty()) at(full, "\"" + key + "\" is empty");
    if (path.size() > kMost) {
      at(full, "\"" + key + "\" is longer than " + std::to_string(kMost) +
                   " bytes, which is the most a socket's path can have");
    }
  }

  // Whoever may mount the folder of the public socket must not get the admin socket with it.
  void admin_socket(const AgentConfig& c) {
    socket_path("agent", "admin_socket_path", c.admin_socket_path);
    const std::string folder = c.socket_path.substr(0, c.socket_path.rfind('/') + 1);
    if (!folder.empty() && c.admin_socket_path.starts_with(folder)) {
      at("agent.admin_socket_path", "\"admin_socket_path\" lies below the folder of \"socket_path\" (" + folder +
                                        "): put it into a folder of its own");
    }
  }

  void delegates(const AgentConfig& c) {
    const auto own = TrustDomain::parse(c.trust_domain);
    for (const std::string& id : c.authorized_delegates) {
      const std::string shown = "\"" + id + "\" in \"authorized_delegates\" is not ";
      const auto parsed = SpiffeId::parse(id);
      if (!parsed) {
        at("agent.authorized_delegates", shown + "a SPIFFE ID: " + parsed.error().message);
      } else if (own && (!parsed->member_of(*own) || parsed->path().empty())) {
        at("agent.authorized_delegates", shown + "a workload of the trust domain \"" + c.trust_domain + "\"");
      }
    }
  }

  void bootstrap(const AgentConfig& c) {
    const bool path = !c.trust_bundle_path.empty();
    const bool url = !c.trust_bundle_url.empty();
    if (path && c.insecure_bootstrap) {
      at("agent.insecure_bootstrap", "\"trust_bundle_path\" and \"insecure_bootstrap\" exclude each other: keep one");
    }
    if (url && (path || c.insecure_bootstrap)) {
      at("agent.trust_bundle_url", "\"trust_bundle_url\" and \"" +
                                       std::string(path ? "trust_bundle_path" : "insecure_bootstrap") +
                                       "\" exclude each other: keep one");
    }
    if (!path && !url && !c.insecure_bootstrap) {
      at("agent.trust_bundle_path",
         "one of \"trust_bundle_path\", \"trust_bundle_url\" and \"insecure_bootstrap\" is required in [agent]");
    }
    const std::string scheme = c.trust_bundle_unix_socket.empty() ? "https://" : "http://";
    if (url && !c.trust_bundle_url.starts_with(scheme)) {
      at("agent.trust_bundle_url", "\"trust_bundle_url\" is \"" + c.trust_bundle_url + "\": it must start with \"" +
                                       scheme + "\", and only over \"trust_bundle_unix_socket\" may it be http");
    }
    if (!url && !c.trust_bundle_unix_socket.empty()) {
      at("agent.trust_bundle_unix_socket", "\"trust_bundle_unix_socket\" needs \"trust_bundle_url\"");
    }
    if (c.rebootstrap_mode != "never" && !path && !url) {
      at("agent.rebootstrap_mode", "\"rebootstrap_mode\" needs \"trust_bundle_path\" or \"trust_bundle_url\"");
    }
  }

  void health(const std::string& table, const HealthChecksConfig& c) {
    for (const auto& [key, path] : {std::pair{"live_path", &c.live_path}, std::pair{"ready_path", &c.ready_path}}) {
      if (!path->starts_with('/')) {
        at(table + ".health_checks." + key,
           "\"" + std::string(key) + "\" is \"" + *path + "\": it must start with \"/\"");
      }
    }
    if (c.live_path == c.ready_path)
      at(table + ".health_checks.ready_path", "\"live_path\" and \"ready_path\" are the same");
  }

  void telemetry(const std::string& table, const TelemetryConfig& c) {
    const bool named = places_.contains(table + ".telemetry.Prometheus");
    if (named && !places_.contains(table + ".telemetry.Prometheus.port")) {  // a port of 0 says: off
      at(table + ".telemetry.Prometheus.port", "\"port\" is required in [" + table + ".telemetry.Prometheus]");
    }
    for (const char& letter : c.metric_prefix) {
      const bool good = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || letter == '_' ||
                        (letter >= '0' && letter <= '9' && &letter != c.metric_prefix.data());
      if (good) continue;
      return at(table + ".telemetry.MetricPrefix",
                "\"MetricPrefix\" is \"" + c.metric_prefix + "\": letters, digits and underscores are expected");
    }
  }

  void shared_object(const std::string& table, const PluginConfig& p) {
    if (!p.path.starts_with('/')) at(table + ".path", "\"path\" is \"" + p.path + "\": an absolute path is expected");
    if (p.sha256.empty()) {
      at(table + ".path", "\"sha256\" is required with \"path\"; sha256sum " + p.path + " prints it");
      return;
    }
    const bool hex =
        std::ranges::all_of(p.sha256, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
    if (p.sha256.size() != 64 || !hex) at(table + ".sha256", "\"sha256\" must be 64 lower-case hexadecimal digits");
  }

  void isolation(const std::string& table, const PluginConfig& p) {
    if (p.path.empty() && p.isolation == "shim") {
      return at(table + ".isolation",
                "\"isolation\" is \"shim\", which needs \"path\": a built-in plugin runs in-process");
    }
    const bool shim = !p.path.empty() && p.isolation != "in-process";
    const auto needs_shim = [&](const char* key, bool set) {
      if (set && !shim)
        at(table + "." + key, "\"" + std::string(key) +
                                  "\" is about the plugin's own process: it needs a plugin with "
                                  "\"path\" and isolation = \"shim\"");
    };
    needs_shim("user", !p.user.empty());
    needs_shim("network", p.network);
    if (p.type == "WorkloadAttestor" && p.network) {
      at(table + ".network", "\"network\" is true for the WorkloadAttestor \"" + p.name +
                                 "\": it sees every process and file, and so gets no network; remove \"network\"");
    }
    needs_shim("require_sandbox", p.require_sandbox);
    const auto paths = [&](const char* key, const std::vector<std::string>& list) {
      needs_shim(key, !list.empty());
      for (const std::string& path : list) {
        if (!path.starts_with('/'))
          at(table + "." + key, "\"" + std::string(key) + "\" has \"" + path + "\": an absolute path is expected");
      }
    };
    paths("devices", p.devices);
    paths("read_paths", p.read_paths);
    paths("write_paths", p.write_paths);
  }

  const Places& places_;
  Problems& problems_;
};

}  // namespace

void check_rules(const Config& config, const Places& places, Problems& problems) {
  Rules rules(places, problems);
  if (!config.server && !config.agent) problems.add({}, "neither [server] nor [agent] is configured");
  if (config.server) rules.server(*config.server);
  if (config.agent) rules.agent(*config.agent);
  rules.plugins(config.plugins);
}

}  // namespace limpet
