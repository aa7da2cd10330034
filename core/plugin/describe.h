// SPDX-License-Identifier: Apache-2.0
#pragma once
// A first look at a plugin's file: what its descriptor says. The file is loaded in a throw-away child with little
// memory and time, because loading runs its code; whatever happens to the child is an error of the look. Blocks; for
// commands, before there are other threads.

#include <string>
#include <vector>

#include "base/result.h"

struct limpet_plugin;

namespace limpet {

struct PluginDescription {
  std::string id;
  std::string version;
  std::string license;
  uint32_t abi_major = 0;
  uint32_t abi_minor = 0;
  struct Component {
    std::string interface_id;
    std::string name;
    bool blocking = false;
    bool serial = false;
  };
  std::vector<Component> components;
  std::string sha256;  // of the file, lower-case hex; empty: built in
};

// Of a descriptor that was checked.
PluginDescription description_of(const limpet_plugin& plugin);
// FAILED_PRECONDITION or NOT_FOUND: the loader refuses it. INTERNAL: the child was ended by the plugin's code, or said
// nothing that can be understood. DEADLINE_EXCEEDED: it took longer than `ms`.
Result<PluginDescription> describe_plugin_file(const std::string& path, int64_t ms);

}  // namespace limpet
