// SPDX-License-Identifier: Apache-2.0
#include "cli/plugin_commands.h"

#include <algorithm>
#include <cstdio>

#include "cli/import_commands.h"
#include "cli/json.h"
#include "cli/output.h"
#include "config/config.h"

namespace limpet::cli {

namespace {

// What an interface is called in a configuration.
std::string type_of(std::string_view interface_id) {
  constexpr std::pair<std::string_view, std::string_view> kTypes[] = {
      {"limpet.key-manager/1", "KeyManager"},
      {"limpet.sealer/1", "Sealer"},
      {"limpet.node-attestor.agent/1", "NodeAttestor"},
      {"limpet.node-attestor.server/1", "NodeAttestor"},
      {"limpet.workload-attestor/1", "WorkloadAttestor"},
      {"limpet.upstream-authority/1", "UpstreamAuthority"},
      {"limpet.bundle-publisher/1", "BundlePublisher"},
  };
  const auto* const place =
      std::ranges::find(kTypes, interface_id, &std::pair<std::string_view, std::string_view>::first);
  return std::string(place == std::end(kTypes) ? interface_id : place->second);
}

// A descriptor's text is its author's: nothing in it may speak to the terminal.
std::string shown(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

std::string flags_of(const PluginDescription::Component& component) {
  std::string out;
  if (component.blocking) out += " blocking";
  if (component.serial) out += " serial";
  return out;
}

std::string abi_of(const PluginDescription& found) {
  return std::to_string(found.abi_major) + "." + std::to_string(found.abi_minor);
}

// ---- describe ----
void print_description(const std::string& path, const PluginDescription& found) {
  std::printf("Plugin     : %s\n", shown(found.id).c_str());
  std::printf("Version    : %s\n", shown(found.version).c_str());
  std::printf("License    : %s\n", shown(found.license).c_str());
  std::printf("Plugin ABI : %s\n", abi_of(found).c_str());
  std::printf("Path       : %s\n", path.c_str());
  std::printf("SHA-256    : %s\n", found.sha256.c_str());
  for (const auto& component : found.components) {
    std::printf("Component  : %s \"%s\" (%s)%s\n", shown(type_of(component.interface_id)).c_str(),
                shown(component.name).c_str(), shown(component.interface_id).c_str(), flags_of(component).c_str());
  }
}

void write_description(JsonWriter& out, const std::string& path, const PluginDescription& found) {
  out.begin_object().key("id").string(found.id).key("version").string(found.version);
  out.key("license").string(found.license).key("abi").string(abi_of(found));
  out.key("path").string(path).key("sha256").string(found.sha256).key("components").begin_array();
  for (const auto& component : found.components) {
    out.begin_object()
        .key("interface")
        .string(component.interface_id)
        .key("type")
        .string(type_of(component.interface_id));
    out.key("name").string(component.name).key("blocking").boolean(component.blocking);
    out.key("serial").boolean(component.serial).end_object();
  }
  out.end_array().end_object();
}

int describe(Context& context) {
  const auto json = wants_json(*context.flags);
  if (!json) return failed(json.error());
  const auto& files = context.flags->rest();
  if (files.size() != 1) {
    return failed(Error{Code::invalid_argument, "one file is needed: limpet plugin describe FILE.so"});
  }
  const auto found = context.runner->describe(files.front(), "");
  // the reason may be the file's own words, too: names of its symbols, what its code says of itself
  if (!found) return failed(Error{found.error().code, shown(found.error().message)});
  if (!*json) {
    print_description(files.front(), *found);
    return 0;
  }
  JsonWriter out;
  write_description(out, files.front(), *found);
  std::printf("%s\n", out.text().c_str());
  return 0;
}

// ---- list ----
struct Line {
  std::string type;
  std::string name;
  std::string role;       // "server", "agent"; empty: every role that has the type
  std::string version;    // empty: not known
  std::string path;       // empty: built in
  std::string isolation;  // where it runs: "shim", "in-process"
  bool configured = false;
  bool enabled = true;
  std::string error;  // why nothing is known of it
};

const PluginDescription* with_component(const std::vector<PluginDescription>& plugins, std::string_view type,
                                        std::string_view name) {
  const auto place = std::ranges::find_if(plugins, [&](const PluginDescription& plugin) {
    return std::ranges::any_of(plugin.components,
                               [&](const auto& c) { return c.name == name && type_of(c.interface_id) == type; });
  });
  return place == plugins.end() ? nullptr : &*place;
}

Line line_of(const PluginConfig& config, const Context& context, const std::vector<PluginDescription>& built_in) {
  Line line{config.type, config.name, config.role, {}, config.path, {}, true, config.enabled, {}};
  if (config.path.empty()) {
    const PluginDescription* found = with_component(built_in, config.type, config.name);
    found != nullptr ? line.version = found->version : line.error = "no such plugin is built in";
    line.isolation = "in-process";
    return line;
  }
  line.isolation = config.isolation.empty() ? "shim" : config.isolation;
  const auto found = context.runner->describe(config.path, config.sha256);
  if (!found) {
    line.error = found.error().message;
  } else if (with_component({*found}, config.type, config.name) == nullptr) {
    line.error = "no such plugin is in the file";
  } else {
    line.version = found->version;
  }
  return line;
}

std::vector<Line> lines_of(const Config& config, const Context& context) {
  const std::vector<PluginDescription> built_in = context.runner->built_in();
  std::vector<Line> out;
  out.reserve(config.plugins.size());
  for (const PluginConfig& plugin : config.plugins) out.push_back(line_of(plugin, context, built_in));
  for (const PluginDescription& plugin : built_in) {
    for (const auto& component : plugin.components) {
      const std::string type = type_of(component.interface_id);
      const bool known = std::ranges::any_of(
          out, [&](const Line& line) { return line.path.empty() && line.type == type && line.name == component.name; });
      if (!known) out.push_back({type, component.name, {}, plugin.version, {}, "in-process", false, false, {}});
    }
  }
  return out;
}

const char* state_of(const Line& line) {
  return !line.configured ? "not configured" : line.enabled ? "enabled" : "disabled";
}

void print_line(const Line& line) {
  std::printf("Plugin    : %s \"%s\"\n", shown(line.type).c_str(), shown(line.name).c_str());
  std::printf("State     : %s\n", state_of(line));
  if (!line.role.empty()) std::printf("Role      : %s\n", line.role.c_str());
  std::printf("Version   : %s\n", line.version.empty() ? "unknown" : shown(line.version).c_str());
  std::printf("Path      : %s\n", line.path.empty() ? "built in" : line.path.c_str());
  if (!line.isolation.empty()) std::printf("Isolation : %s\n", line.isolation.c_str());
  if (!line.error.empty()) std::printf("Error     : %s\n", shown(line.error).c_str());
  std::printf("\n");
}

void write_line(JsonWriter& out, const Line& line) {
  out.begin_object().key("type").string(line.type).key("name").string(line.name);
  out.key("configured").boolean(line.configured).key("enabled").boolean(line.enabled);
  out.key("role").string(line.role).key("version").string(line.version).key("path").string(line.path);
  out.key("isolation").string(line.isolation).key("error").string(line.error).end_object();
}

int list(Context& context) {
  const auto json = wants_json(*context.flags);
  if (!json) return failed(json.error());
  const auto config = load_configured(context);
  if (!config) return failed(config.error());
  const std::vector<Line> lines = lines_of(*config, context);
  if (*json) {
    JsonWriter out;
    out.begin_object().key("plugins").begin_array();
    for (const Line& line : lines) write_line(out, line);
    std::printf("%s\n", out.end_array().end_object().text().c_str());
  } else {
    std::printf("Found %s\n\n", counted(lines.size(), "plugin", "plugins").c_str());
    for (const Line& line : lines) print_line(line);
  }
  return std::ranges::any_of(lines, [](const Line& line) { return line.enabled && !line.error.empty(); }) ? 1 : 0;
}

}  // namespace

std::vector<Command> plugin_commands() {
  return {
      {"plugin list",
       kLimpet,
       "Lists the plugins that are configured and those that are built in",
       {{"config", FlagType::text, "/etc/limpet/limpet.toml", "The configuration file"},
        {"expandEnv", FlagType::boolean, "false", "Replace $NAME and ${NAME} in the file by the environment's values"},
        output_flag()},
       list},
      {"plugin describe",
       kLimpet,
       "Prints what a plugin's file says of itself, and the digest to configure it with",
       {output_flag()},
       describe},
  };
}

}  // namespace limpet::cli
