// SPDX-License-Identifier: Apache-2.0
// From [[plugin]] tables to configured facades.
#include "plugin/catalog.h"

#include <unistd.h>

#include <algorithm>

#include "plugin/bundle_publisher_facade.h"
#include "plugin/key_manager_facade.h"
#include "plugin/node_attestor.h"
#include "plugin/sealer_facade.h"
#include "plugin/upstream_authority_facade.h"
#include "plugin/workload_attestor.h"

namespace limpet {
namespace {

// What a [[plugin]] type means to a role: the interface it asks for and the one that only the other role uses.
struct Kind {
  std::string_view type;
  PluginRole role;
  std::string_view interface_id;
  std::string_view other_half;
  std::string_view prefix;
};
constexpr Kind kKinds[] = {
    {"KeyManager", PluginRole::server, LIMPET_KEY_MANAGER, "", kKeyManagerPrefix},
    {"KeyManager", PluginRole::agent, LIMPET_KEY_MANAGER, "", kKeyManagerPrefix},
    {"NodeAttestor", PluginRole::server, LIMPET_NODE_ATTESTOR_SERVER, LIMPET_NODE_ATTESTOR_AGENT, kNodeAttestorPrefix},
    {"NodeAttestor", PluginRole::agent, LIMPET_NODE_ATTESTOR_AGENT, LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix},
    {"Sealer", PluginRole::server, LIMPET_SEALER, "", kSealerPrefix},
    {"Sealer", PluginRole::agent, LIMPET_SEALER, "", kSealerPrefix},
    {"UpstreamAuthority", PluginRole::server, LIMPET_UPSTREAM_AUTHORITY, "", kUpstreamAuthorityPrefix},
    {"BundlePublisher", PluginRole::server, LIMPET_BUNDLE_PUBLISHER, "", kBundlePublisherPrefix},
    {"WorkloadAttestor", PluginRole::agent, LIMPET_WORKLOAD_ATTESTOR, "", kWorkloadAttestorPrefix},
};

const Kind* find_kind(std::string_view type, PluginRole role) {
  const auto* place = std::ranges::find_if(kKinds, [&](const Kind& k) { return k.type == type && k.role == role; });
  return place == std::end(kKinds) ? nullptr : place;
}

std::string_view role_name(PluginRole role) { return role == PluginRole::server ? "server" : "agent"; }

int rank(std::string_view interface_id) {
  return interface_id == LIMPET_SEALER ? 0 : interface_id == LIMPET_KEY_MANAGER ? 1 : 2;
}

std::string where(const PluginConfig& c) {
  std::string text = c.type + " \"" + c.name + "\"";
  if (c.line > 0) text += " (line " + std::to_string(c.line) + ")";
  return text;
}

template <class T>
std::vector<T*> addresses(const std::vector<std::unique_ptr<T>>& owned) {
  std::vector<T*> out;
  out.reserve(owned.size());
  for (const auto& one : owned) out.push_back(one.get());
  return out;
}

}  // namespace

Catalog::Catalog(const PluginContext& context, Options options, std::span<const StaticPlugin> built_in)
    : context_(context), options_(std::move(options)), built_in_(built_in) {}

Catalog::~Catalog() {
  if (configuring_ != nullptr) configuring_->close();
}

void Catalog::start(const std::vector<PluginConfig>& plugins, Done<void> done) {
  begin(plugins, false, std::move(done));
}
void Catalog::validate(const std::vector<PluginConfig>& plugins, Done<void> done) {
  begin(plugins, true, std::move(done));
}

void Catalog::begin(const std::vector<PluginConfig>& plugins, bool dry_run, Done<void> done) {
  dry_run_ = dry_run;
  done_ = std::move(done);
  Result<void> found = open_built_in();
  for (const PluginConfig& config : plugins) {
    if (!found) break;
    if (config.enabled) found = find(config);
  }
  if (found) found = check_counts();
  if (!found) return end(std::move(found));
  next();
}

Result<void> Catalog::open_built_in() {
  for (const StaticPlugin& plugin : built_in_) {
    TRY_ASSIGN(const limpet_plugin* opened, open_plugin(plugin.main, plugin.name));
    opened_.push_back(opened);
  }
  return {};
}

// Finds the component a table asks for, loading its file when it names one.
Result<void> Catalog::find(const PluginConfig& config) {
  if (!config.role.empty() && config.role != role_name(options_.role)) return {};
  if (options_.keys_only && config.type != "KeyManager" && config.type != "Sealer") return {};
  const Kind* kind = find_kind(config.type, options_.role);
  if (kind == nullptr) {
    const PluginRole other = options_.role == PluginRole::server ? PluginRole::agent : PluginRole::server;
    if (config.role.empty() && find_kind(config.type, other) != nullptr) return {};
    return fail(Code::invalid_argument,
                where(config) + ": the " + std::string(role_name(options_.role)) + " has no plugins of this type");
  }
  const bool server_half = kind->interface_id == LIMPET_NODE_ATTESTOR_SERVER;
  if (server_half && config.path.empty() && options_.provided.contains(config.name)) return {};
  const auto no_such_plugin = [&config] {
    return fail(Code::not_found, where(config) + ": no such plugin " +
                                     (config.path.empty() ? "is built in; give path and sha256 of a shared object"
                                                          : "in " + config.path));
  };
  std::vector<const limpet_plugin*> candidates = opened_;
  if (!config.path.empty() && config.isolation != "in-process" && options_.shim_loop != nullptr) {
    TRY_ASSIGN_WITHIN(where(config), const bool mine, find_in_shim(config, kind->interface_id, kind->other_half));
    if (mine) return {};
    return no_such_plugin();
  }
  if (!config.path.empty()) {
    TRY_ASSIGN_WITHIN(where(config), PluginFile file, PluginFile::open(config.path, config.sha256));
    // loading runs its code: a throw-away child is the first to do that
    TRY_WITHIN(where(config), shim::Component::describe(shim_settings(config), file, config.path));
    TRY_ASSIGN_WITHIN(where(config), const limpet_plugin* loaded, map_plugin(std::move(file).release(), config.path));
    candidates = {loaded};
  }
  bool other_half = false;
  for (const limpet_plugin* plugin : candidates) {
    if (const limpet_component* component = find_component(*plugin, kind->interface_id, config.name)) {
      want(config, *component, kind->interface_id);
      return {};
    }
    other_half = other_half || find_component(*plugin, kind->other_half, config.name) != nullptr;
  }
  if (other_half && config.role.empty()) return {};  // a table without a role means the roles that the plugin serves
  return no_such_plugin();
}

void Catalog::want(const PluginConfig& config, const limpet_component& component, std::string_view interface_id) {
  // what others may ask the host for comes before them
  const auto place =
      std::ranges::find_if(wanted_, [&](const Wanted& w) { return rank(w.interface_id) > rank(interface_id); });
  wanted_.insert(place, {config, &component, interface_id});
}

shim::Settings Catalog::shim_settings(const PluginConfig& config) const {
  shim::Settings settings;
  settings.program = options_.shim_program;
  // what will be loaded here must be readable to us only
  settings.user = config.isolation == "in-process" ? std::to_string(::geteuid()) : config.user;
  settings.network = config.network;
  settings.require_sandbox = config.require_sandbox;
  settings.devices = config.devices;
  settings.read_paths = config.read_paths;
  settings.write_paths = config.write_paths;
  settings.health = options_.health;
  return settings;
}

// A throw-away child looks at the file. False: there is no such component, nor another half that excuses it.
Result<bool> Catalog::find_in_shim(const PluginConfig& config, std::string_view interface_id,
                                   std::string_view other_half) {
  TRY_ASSIGN(auto component, shim::Component::open(*options_.shim_loop, shim_settings(config), config.path,
                                                   config.sha256, interface_id, config.name));
  if (component->found()) {
    want(config, *component, interface_id);
    shims_.push_back(std::move(component));
    return true;
  }
  return config.role.empty() && std::ranges::any_of(component->facts().components, [&](const auto& c) {
           return c.interface_id == other_half && c.name == config.name;
         });
}

Result<void> Catalog::check_counts() const {
  const auto count = [this](std::string_view id) {
    return std::ranges::count_if(wanted_, [id](const Wanted& w) { return w.interface_id == id; });
  };
  const std::string role(role_name(options_.role));
  if (count(LIMPET_KEY_MANAGER) != 1) {
    return fail(Code::invalid_argument, "the " + role +
                                            " needs exactly one [[plugin]] with type = \"KeyManager\", found " +
                                            std::to_string(count(LIMPET_KEY_MANAGER)));
  }
  if (options_.role == PluginRole::agent && !options_.keys_only && count(LIMPET_NODE_ATTESTOR_AGENT) != 1) {
    return fail(Code::invalid_argument, "the agent needs exactly one [[plugin]] with type = \"NodeAttestor\", found " +
                                            std::to_string(count(LIMPET_NODE_ATTESTOR_AGENT)));
  }
  if (count(LIMPET_UPSTREAM_AUTHORITY) > 1) {
    return fail(Code::invalid_argument,
                "the server takes at most one [[plugin]] with type = \"UpstreamAuthority\", found " +
                    std::to_string(count(LIMPET_UPSTREAM_AUTHORITY)));
  }
  if (count(LIMPET_SEALER) > 1) {
    return fail(Code::invalid_argument, "the " + role + " takes at most one [[plugin]] with type = \"Sealer\", found " +
                                            std::to_string(count(LIMPET_SEALER)));
  }
  for (size_t i = 0; i < wanted_.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (wanted_[i].interface_id == wanted_[j].interface_id && wanted_[i].config.name == wanted_[j].config.name) {
        return fail(Code::invalid_argument, where(wanted_[i].config) + ": configured twice");
      }
    }
  }
  return {};
}

void Catalog::next() {
  if (at_ == wanted_.size()) return end({});
  const Wanted& wanted = wanted_[at_];
  auto made = Instance::create(context_, *wanted.component, find_kind(wanted.config.type, options_.role)->prefix);
  if (!made) return end(fail(std::move(made).error().within(where(wanted.config))));
  configuring_ = std::move(*made);
  configuring_->configure(wanted.config.data_json, dry_run_, configured_.then<&Catalog::on_configured>(this));
}

void Catalog::on_configured(Result<void> result) {
  const Wanted& wanted = wanted_[at_++];
  std::shared_ptr<Instance> instance = std::move(configuring_);
  if (!result || dry_run_) instance->close();
  if (!result) return end(fail(std::move(result).error().within(where(wanted.config))));
  if (!dry_run_) keep(wanted.interface_id, std::move(instance));
  next();
}

void Catalog::keep(std::string_view interface_id, std::shared_ptr<Instance> instance) {
  if (interface_id == LIMPET_SEALER)
    context_.services.sealer = (sealer_ = make_sealer(std::move(instance))).get();
  else if (interface_id == LIMPET_KEY_MANAGER)
    keep_key_manager(std::move(instance));
  else if (interface_id == LIMPET_NODE_ATTESTOR_AGENT)
    agent_ = make_node_attestor_agent(std::move(instance));
  else if (interface_id == LIMPET_NODE_ATTESTOR_SERVER)
    servers_.push_back(make_node_attestor_server(std::move(instance)));
  else if (interface_id == LIMPET_UPSTREAM_AUTHORITY)
    upstream_ = make_upstream_authority(std::move(instance));
  else if (interface_id == LIMPET_BUNDLE_PUBLISHER)
    publishers_.push_back(make_bundle_publisher(std::move(instance)));
  else
    workload_.push_back(make_workload_attestor(std::move(instance)));
}

void Catalog::keep_key_manager(std::shared_ptr<Instance> instance) {
  key_manager_ = make_key_manager(std::move(instance));
  context_.services.keys = &plugin_keys_.emplace(*key_manager_);
}

void Catalog::end(Result<void> result) {
  context_.loop.post([done = std::move(done_), outcome = std::move(result)]() mutable { done(std::move(outcome)); });
}

NodeAttestorServer* Catalog::node_attestor_server(std::string_view name) const {
  const auto place = std::ranges::find_if(servers_, [&](const auto& s) { return s->name() == name; });
  return place == servers_.end() ? nullptr : place->get();
}

std::vector<WorkloadAttestor*> Catalog::workload_attestors() const { return addresses(workload_); }
std::vector<BundlePublisher*> Catalog::bundle_publishers() const { return addresses(publishers_); }

}  // namespace limpet
