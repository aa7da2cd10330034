// SPDX-License-Identifier: Apache-2.0
#pragma once
// A first look at a plugin's file: what its descriptor says. Loading a file runs its code, so a throw-away child
// (limpet-shim) does that, in its sandbox and for a bounded time; whatever happens to the child is an error of the
// look. Blocks; for commands and the start, before there are other threads.

#include <string>
#include <vector>

#include "base/bytes.h"
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
    uint32_t flags = 0;     // as the descriptor has them; the two that this version knows:
    bool blocking = false;  // LIMPET_BLOCKING
    bool serial = false;    // LIMPET_SERIAL
  };
  std::vector<Component> components;
  std::string sha256;                // of the file, lower-case hex; empty: built in
  std::vector<std::string> missing;  // protections that the child could not put up
};

// Of a descriptor that was checked.
PluginDescription description_of(const limpet_plugin& plugin);

namespace shim {

// What a child of `program`, told `hello`, says of the plugin behind the descriptor. `ms` bounds all of it. The code of
// the loader's refusal; INTERNAL: the plugin's code ended the child, or said what cannot be; DEADLINE_EXCEEDED;
// UNAVAILABLE: there is no such program, or it does not work.
Result<PluginDescription> look_into(const std::string& program, int plugin_fd, const std::string& path,
                                    const Bytes& hello, int64_t ms);

}  // namespace shim
}  // namespace limpet
