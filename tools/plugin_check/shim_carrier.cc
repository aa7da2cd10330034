// SPDX-License-Identifier: Apache-2.0
// The plugin in child processes of its own: the core's proxies are components, so the tests do not notice.
#include <sys/stat.h>

#include "crypto/key.h"
#include "plugin/loader.h"
#include "plugin/shim_component.h"
#include "plugin_check/resources.h"
#include "plugin_check/runner.h"

extern "C" __attribute__((weak)) size_t __sanitizer_get_current_allocated_bytes();

namespace limpet::check {
namespace {

// What stands behind the descriptor of a plugin that is not in this process.
struct Carried {
  std::vector<std::unique_ptr<shim::Component>> components;
  std::vector<const limpet_component*> list;
  PluginDescription facts;
  limpet_plugin plugin = {};
};

shim::Settings settings_of(const Check& check, const std::string& program) {
  shim::Settings out;
  out.program = program.empty() ? LIMPET_SHIM : program;
  // a sanitizer's memory and calls fit no policy
  out.sandbox = !program.empty() || &__sanitizer_get_current_allocated_bytes == nullptr;
  const ShimConfig& wish = check.all->shim;
  out.network = wish.network;
  for (const std::string& path : wish.devices) out.devices.push_back(check.expand(path));
  for (const std::string& path : wish.read_paths) out.read_paths.push_back(check.expand(path));
  for (const std::string& path : wish.write_paths) out.write_paths.push_back(check.expand(path));
  return out;
}

Result<const limpet_plugin*> open(Check& check, const std::string& program) {
  const shim::Settings settings = settings_of(check, program);
  if (settings.sandbox) ::chmod(check.directory.c_str(), 0777);  // the child is another user
  const std::string digest = hex_encode(sha256(as_bytes(read_whole(check.path))));
  auto carried = std::make_shared<Carried>();
  TRY_ASSIGN(carried->facts, shim::Component::describe(settings, check.path, digest));
  for (const auto& c : carried->facts.components) {
    TRY_ASSIGN(auto component,
               shim::Component::open(check.bench().loop, settings, check.path, digest, c.interface_id, c.name));
    carried->list.push_back(component.get());
    carried->components.push_back(std::move(component));
  }
  carried->list.push_back(nullptr);
  carried->plugin = {sizeof(limpet_plugin),
                     LIMPET_ABI_MAJOR,
                     LIMPET_ABI_MINOR,
                     0,
                     carried->facts.id.c_str(),
                     carried->facts.version.c_str(),
                     carried->facts.license.c_str(),
                     carried->list.data()};
  check.carried = carried;
  return &carried->plugin;
}

}  // namespace

Carrier through_the_shim(const std::string& program) {
  return {"through the shim", [program](Check& check) { return open(check, program); }};
}

}  // namespace limpet::check
