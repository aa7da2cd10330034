// SPDX-License-Identifier: Apache-2.0
// Tests of the file and its one function.
#include <dlfcn.h>

#include "base/cut.h"
#include "crypto/key.h"
#include "plugin/elf_facts.h"
#include "plugin/loader.h"
#include "plugin_check/check.h"
#include "plugin_check/resources.h"

namespace limpet::check {
namespace {

bool facts(Check& c, ElfFacts& out) {
  auto read = read_elf(read_whole(c.path));
  if (!read) {
    c.fail(read.error().message);
    return false;
  }
  out = std::move(*read);
  return true;
}

void symbols(Check& c) {
  ElfFacts elf;
  if (!facts(c, elf)) return;
  std::string others;
  bool found = false;
  for (const std::string& name : elf.exported) {
    if (name == "limpet_plugin_main") {
      found = true;
    } else {
      others += (others.empty() ? "" : ", ") + name;
    }
  }
  if (!found) return c.fail("limpet_plugin_main is not exported");
  if (!others.empty()) {
    c.fail("exported beside limpet_plugin_main: " + cut_text(others, 300) +
           "; link with -Wl,--version-script=abi/limpet_plugin.map");
  }
}

void linking(Check& c) {
  ElfFacts elf;
  if (!facts(c, elf)) return;
  if (!elf.run_path.empty())
    return c.fail("RPATH or RUNPATH is " + elf.run_path + ": libraries would be looked for there");
  if (elf.text_relocations) return c.fail("text relocations: compile with -fPIC");
  if (elf.executable_stack) return c.fail("the stack is executable");
  if (!elf.bind_now || !elf.relro) c.warn("link with -Wl,-z,now,-z,relro");
}

PluginMain entry_of(Check& c) {
  void* handle = ::dlopen(c.path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    c.fail(std::string("the dynamic linker says: ") + ::dlerror());
    return nullptr;
  }
  void* entry = ::dlsym(handle, "limpet_plugin_main");
  if (entry == nullptr) c.fail("limpet_plugin_main is not exported");
  return reinterpret_cast<PluginMain>(entry);
}

void load(Check& c) {
  const std::string digest = hex_encode(sha256(as_bytes(read_whole(c.path))));
  const auto plugin = map_plugin_at(c.path);
  if (!plugin) return c.fail(plugin.error().message);
  c.note("sha256 " + digest + ", " + (*plugin)->id + " " + (*plugin)->version + ", " + (*plugin)->license);
}

void constructors(Check& c) {
  const size_t threads_before = threads();
  const size_t descriptors_before = open_descriptors();
  const std::string signals_before = signal_dispositions();
  if (entry_of(c) == nullptr) return;
  if (threads() != threads_before) return c.fail("a thread was started while the object was loaded");
  if (open_descriptors() != descriptors_before) return c.fail("a descriptor was opened while the object was loaded");
  if (signal_dispositions() != signals_before) c.fail("a signal handler was set while the object was loaded");
}

void pure_entry(Check& c) {
  const PluginMain entry = entry_of(c);
  if (entry == nullptr) return;
  const size_t threads_before = threads();
  const size_t descriptors_before = open_descriptors();
  const size_t bytes_before = allocated_bytes();
  (void)entry(LIMPET_ABI_MAJOR, LIMPET_ABI_MINOR);
  const size_t bytes_after = allocated_bytes();
  if (bytes_after > bytes_before)
    return c.fail("limpet_plugin_main allocated " + std::to_string(bytes_after - bytes_before) +
                  " bytes and kept them");
  if (threads() != threads_before) return c.fail("limpet_plugin_main started a thread");
  if (open_descriptors() != descriptors_before) c.fail("limpet_plugin_main opened a descriptor");
}

void entry_twice(Check& c) {
  const PluginMain entry = entry_of(c);
  if (entry == nullptr) return;
  const limpet_plugin* first = entry(LIMPET_ABI_MAJOR, LIMPET_ABI_MINOR);
  if (entry(LIMPET_ABI_MAJOR, LIMPET_ABI_MINOR) != first)
    c.fail("limpet_plugin_main answered with another descriptor the second time; it must be static");
}

void unknown_major(Check& c) {
  const PluginMain entry = entry_of(c);
  if (entry == nullptr) return;
  for (const uint32_t major : {0u, LIMPET_ABI_MAJOR + 1, 1000u, UINT32_MAX}) {
    if (entry(major, 0) != nullptr)
      return c.fail("limpet_plugin_main(" + std::to_string(major) +
                    ", 0) is not NULL: it was never made for that host");
  }
}

void later_minor(Check& c) {
  const PluginMain entry = entry_of(c);
  if (entry == nullptr) return;
  if (entry(LIMPET_ABI_MAJOR, LIMPET_ABI_MINOR + 7) == nullptr)
    c.fail("limpet_plugin_main is NULL for a later minor version: hosts only grow within a major");
}

}  // namespace

std::span<const TestCase> library_tests() {
  static const TestCase kTests[] = {
      {.name = "library.symbols", .rule = "one symbol is exported", .run = symbols, .once = true, .unloaded = true},
      {.name = "library.linking",
       .rule = "no RPATH, no text relocations, no executable stack",
       .run = linking,
       .once = true,
       .unloaded = true},
      {.name = "library.load", .rule = "the host's loader takes it", .run = load, .once = true, .unloaded = true},
      {.name = "library.constructors",
       .rule = "loading starts no thread, opens nothing, handles no signal",
       .run = constructors,
       .needs = {"library.load"},
       .once = true,
       .unloaded = true},
      {.name = "library.pure_entry",
       .rule = "limpet_plugin_main allocates, opens and starts nothing",
       .run = pure_entry,
       .needs = {"library.load"},
       .once = true,
       .unloaded = true},
      {.name = "library.entry_twice",
       .rule = "the descriptor is the same each time",
       .run = entry_twice,
       .needs = {"library.load"},
       .once = true,
       .unloaded = true},
      {.name = "library.unknown_major",
       .rule = "another major version gets NULL",
       .run = unknown_major,
       .needs = {"library.load"},
       .once = true,
       .unloaded = true},
      {.name = "library.later_minor",
       .rule = "a later minor version gets the descriptor",
       .run = later_minor,
       .needs = {"library.load"},
       .once = true,
       .unloaded = true},
  };
  return kTests;
}

}  // namespace limpet::check
