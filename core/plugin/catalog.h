// SPDX-License-Identifier: Apache-2.0
#pragma once
// The plugins of one role: finds them (built in or by path), checks and configures them, and hands out their facades.
// It knows no plugin by name. Owned by main, one per role; it outlives everything that uses a facade, the loop outlives
// it. Loop thread only. Start-up order: construct, start(), then use.

#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "config/config.h"
#include "plugin/attestor.h"
#include "plugin/bundle_publisher.h"
#include "plugin/instance.h"
#include "plugin/key_manager.h"
#include "plugin/loader.h"
#include "plugin/sealer.h"
#include "plugin/shim_component.h"
#include "plugin/upstream_authority.h"

namespace limpet {

enum class PluginRole { server, agent };

class Catalog {
 public:
  struct Options {
    PluginRole role = PluginRole::agent;
    // Server-side node attestation types that the core itself provides; such [[plugin]] tables are accepted and
    // skipped.
    std::set<std::string> provided = {};
    bool keys_only = false;  // the key manager, and the sealer that it may need: nothing else is opened
    // The loop that plugins' own processes are watched on, which is the context's; null: no plugin gets a process.
    UvLoop* shim_loop = nullptr;
    Health* health = nullptr;       // told of plugins whose processes keep dying
    std::string shim_program = {};  // empty: limpet-shim beside us, or where it was installed
  };
  Catalog(const PluginContext& context, Options options, std::span<const StaticPlugin> built_in);
  ~Catalog();
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  // Loads and configures every enabled plugin of the role, one after the other; the first failure ends it. A server
  // needs one KeyManager, may have one UpstreamAuthority and any number of BundlePublishers; an agent needs one
  // KeyManager and one NodeAttestor; both may have one Sealer. Sealers come first, then key managers. Errors name the
  // plugin's table and its line.
  void start(const std::vector<PluginConfig>& plugins, Done<void> done);
  // The same as a dry run: plugins only check their configuration. Nothing can be used afterwards.
  void validate(const std::vector<PluginConfig>& plugins, Done<void> done);

  // After start(); nullptr before, or where the role has none.
  [[nodiscard]] KeyManager* key_manager() const { return key_manager_.get(); }
  [[nodiscard]] Sealer* sealer() const { return sealer_.get(); }
  [[nodiscard]] NodeAttestorAgent* node_attestor_agent() const { return agent_.get(); }
  [[nodiscard]] NodeAttestorServer* node_attestor_server(std::string_view name) const;
  [[nodiscard]] std::vector<WorkloadAttestor*> workload_attestors() const;
  [[nodiscard]] UpstreamAuthority* upstream_authority() const { return upstream_.get(); }
  [[nodiscard]] std::vector<BundlePublisher*> bundle_publishers() const;

 private:
  struct Wanted {
    PluginConfig config;
    const limpet_component* component = nullptr;
    std::string_view interface_id = {};
  };
  void begin(const std::vector<PluginConfig>& plugins, bool dry_run, Done<void> done);
  Result<void> open_built_in();
  Result<void> find(const PluginConfig& config);
  void want(const PluginConfig& config, const limpet_component& component, std::string_view interface_id);
  [[nodiscard]] shim::Settings shim_settings(const PluginConfig& config) const;
  Result<bool> find_in_shim(const PluginConfig& config, std::string_view interface_id, std::string_view other_half);
  Result<void> check_counts() const;
  void next();
  void on_configured(Result<void> result);
  void keep(std::string_view interface_id, std::shared_ptr<Instance> instance);
  void keep_key_manager(std::shared_ptr<Instance> instance);
  void end(Result<void> result);

  PluginContext context_;
  const Options options_;
  const std::span<const StaticPlugin> built_in_;
  std::vector<const limpet_plugin*> opened_;
  std::vector<std::unique_ptr<shim::Component>> shims_;
  std::vector<Wanted> wanted_;
  size_t at_ = 0;
  bool dry_run_ = false;
  std::shared_ptr<Instance> configuring_;
  Pending<void> configured_;
  Done<void> done_;

  std::unique_ptr<Sealer> sealer_;
  std::unique_ptr<KeyManager> key_manager_;
  std::optional<PluginKeys> plugin_keys_;
  std::unique_ptr<NodeAttestorAgent> agent_;
  std::vector<std::unique_ptr<NodeAttestorServer>> servers_;
  std::vector<std::unique_ptr<WorkloadAttestor>> workload_;
  std::unique_ptr<UpstreamAuthority> upstream_;
  std::vector<std::unique_ptr<BundlePublisher>> publishers_;
};

}  // namespace limpet
