// SPDX-License-Identifier: Apache-2.0
// The loader: descriptor checks. The checks of a file are in plugin_file.cc: a shim child does without them.
#include "plugin/loader.h"

#include <dlfcn.h>
#include <limpet_plugin.h>
#include <unistd.h>

#include <cstring>

#include "base/bytes.h"

namespace limpet {
namespace {

constexpr size_t kMaxComponents = 64;  // a descriptor without its terminating NULL must not send us through memory
constexpr size_t kMaxNameBytes = 64;

std::unexpected<Error> refuse(std::string_view what, std::string_view why) {
  return fail(Code::failed_precondition, "plugin " + std::string(what) + " refused: " + std::string(why));
}

bool short_text(const char* text, size_t limit) {
  return text != nullptr && text[0] != 0 && strnlen(text, limit + 1) <= limit;
}

// Names become selector types and path segments: lower case, digits, '-' and '_' only.
bool well_formed_name(const char* name) {
  if (!short_text(name, kMaxNameBytes)) return false;
  for (const char* c = name; *c != 0; ++c) {
    if ((*c < 'a' || *c > 'z') && (*c < '0' || *c > '9') && *c != '_' && *c != '-') return false;
  }
  return true;
}

// ---- tables: nullptr when complete, else what is wrong ----
const char* check_table(const limpet_node_attestor_agent& t) {
  if (!LIMPET_HAS(&t, limpet_node_attestor_agent, close)) return "its node attestor (agent) table is too short";
  if (!t.open || !t.payload || !t.answer || !t.close) return "its node attestor (agent) table lacks a function";
  return nullptr;
}
const char* check_table(const limpet_node_attestor_server& t) {
  if (!LIMPET_HAS(&t, limpet_node_attestor_server, close)) return "its node attestor (server) table is too short";
  if (!t.open || !t.step || !t.close) return "its node attestor (server) table lacks a function";
  return nullptr;
}
const char* check_table(const limpet_workload_attestor& t) {
  if (!LIMPET_HAS(&t, limpet_workload_attestor, attest)) return "its workload attestor table is too short";
  return t.attest ? nullptr : "its workload attestor table lacks attest";
}
const char* check_table(const limpet_key_manager& t) {
  if (!LIMPET_HAS(&t, limpet_key_manager, sign)) return "its key manager table is too short";
  if (!t.generate || !t.list || !t.sign) return "its key manager table lacks a function";
  return nullptr;
}
const char* check_table(const limpet_upstream_authority& t) {
  if (!LIMPET_HAS(&t, limpet_upstream_authority, watch_bundle)) return "its upstream authority table is too short";
  if (!t.mint_ca || !t.publish_jwt_key || !t.watch_bundle) return "its upstream authority table lacks a function";
  return nullptr;
}
const char* check_table(const limpet_bundle_publisher& t) {
  if (!LIMPET_HAS(&t, limpet_bundle_publisher, publish)) return "its bundle publisher table is too short";
  return t.publish ? nullptr : "its bundle publisher table lacks publish";
}

const char* check_table(const limpet_sealer& t) {
  if (!LIMPET_HAS(&t, limpet_sealer, unseal)) return "its sealer table is too short";
  if (!t.seal || !t.unseal) return "its sealer table lacks a function";
  return nullptr;
}

const char* check_vtable(const limpet_component& c) {
  const std::string_view id = c.interface_id;
  if (id == LIMPET_NODE_ATTESTOR_AGENT) return check_table(*static_cast<const limpet_node_attestor_agent*>(c.vtable));
  if (id == LIMPET_NODE_ATTESTOR_SERVER) return check_table(*static_cast<const limpet_node_attestor_server*>(c.vtable));
  if (id == LIMPET_WORKLOAD_ATTESTOR) return check_table(*static_cast<const limpet_workload_attestor*>(c.vtable));
  if (id == LIMPET_KEY_MANAGER) return check_table(*static_cast<const limpet_key_manager*>(c.vtable));
  if (id == LIMPET_SEALER) return check_table(*static_cast<const limpet_sealer*>(c.vtable));
  if (id == LIMPET_UPSTREAM_AUTHORITY) return check_table(*static_cast<const limpet_upstream_authority*>(c.vtable));
  if (id == LIMPET_BUNDLE_PUBLISHER) return check_table(*static_cast<const limpet_bundle_publisher*>(c.vtable));
  return nullptr;  // an interface of a later host: not ours to judge, and never called
}

const char* check_component(const limpet_component& c) {
  if (!LIMPET_HAS(&c, limpet_component, vtable)) return "a component struct is too short";
  if (!short_text(c.interface_id, kMaxNameBytes)) return "a component has no interface id";
  if (!is_utf8(c.interface_id)) return "a component's interface id is not UTF-8";
  if (!well_formed_name(c.name)) return "a component has no name of lower-case letters, digits, '-' and '_'";
  if (!c.create || !c.destroy || !c.configure) return "a component lacks create, destroy or configure";
  if (c.vtable == nullptr) return "a component has no table of functions";
  return check_vtable(c);
}

std::string numbers(uint32_t major, uint32_t minor) { return std::to_string(major) + "." + std::to_string(minor); }

}  // namespace

Result<const limpet_plugin*> open_plugin(PluginMain entry, std::string_view what) {
  const limpet_plugin* p = entry(LIMPET_ABI_MAJOR, LIMPET_ABI_MINOR);
  const std::string ours = numbers(LIMPET_ABI_MAJOR, LIMPET_ABI_MINOR);
  if (p == nullptr)
    return refuse(what, "it says it cannot live with plugin ABI " + ours + "; use a build of it for this limpet");
  if (!LIMPET_HAS(p, limpet_plugin, components)) return refuse(what, "its descriptor struct is too short");
  if (p->abi_major != LIMPET_ABI_MAJOR || p->abi_minor > LIMPET_ABI_MINOR) {
    return refuse(what, "it needs plugin ABI " + numbers(p->abi_major, p->abi_minor) + ", this limpet has " + ours);
  }
  if (!short_text(p->id, 255) || !short_text(p->version, 255) || !short_text(p->license, 255)) {
    return refuse(what, "its descriptor lacks id, version or license");
  }
  if (!is_utf8(p->id) || !is_utf8(p->version) || !is_utf8(p->license)) {
    return refuse(what, "its id, version or license is not UTF-8");
  }
  if (p->components == nullptr || p->components[0] == nullptr) return refuse(what, "it has no components");
  for (size_t i = 0; p->components[i] != nullptr; ++i) {
    if (i == kMaxComponents) return refuse(what, "it lists more than 64 components");
    const limpet_component& one = *p->components[i];
    if (const char* wrong = check_component(one)) return refuse(what, wrong);
    for (size_t j = 0; j < i; ++j) {
      const limpet_component& other = *p->components[j];
      if (std::strcmp(one.interface_id, other.interface_id) == 0 && std::strcmp(one.name, other.name) == 0) {
        return refuse(what, std::string("it has two components ") + one.interface_id + " named \"" + one.name + "\"");
      }
    }
  }
  return p;
}

Result<const limpet_plugin*> map_plugin(int fd, std::string_view path) {
  // The checked descriptor is mapped, not the path: the name could point elsewhere by now. The descriptor stays open
  // for the life of the process because the dynamic linker knows objects by name, and a reused number would find this
  // one.
  const std::string name = "/proc/self/fd/" + std::to_string(fd);
  void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    const std::string why = ::dlerror();
    ::close(fd);
    return refuse(path, "the dynamic linker says: " + why);
  }
  void* entry = ::dlsym(handle, "limpet_plugin_main");
  if (entry == nullptr) return refuse(path, "it does not export limpet_plugin_main");
  return open_plugin(reinterpret_cast<PluginMain>(entry), path);
}

const limpet_component* find_component(const limpet_plugin& plugin, std::string_view interface_id,
                                       std::string_view name) {
  for (size_t i = 0; plugin.components[i] != nullptr; ++i) {
    const limpet_component* c = plugin.components[i];
    if (interface_id == c->interface_id && (name.empty() || name == c->name)) return c;
  }
  return nullptr;
}

}  // namespace limpet
