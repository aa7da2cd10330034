// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a plugin's process gives up before it maps the plugin: its user, its capabilities, the network, most files, most
// system calls. The table of policies is in shim/README.md. Called once, by the only thread there is.

#include <cstdint>
#include <string>
#include <vector>

namespace limpet::shim {

struct Policy {
  uint32_t uid = UINT32_MAX;  // UINT32_MAX: the daemon is not root, and so neither are we
  uint32_t gid = UINT32_MAX;
  bool network = false;
  // Reads of other processes: keeps two capabilities and the view of all files, may write nothing.
  bool looks_at_processes = false;
  std::vector<std::string> devices;
  std::vector<std::string> read_paths;
  std::vector<std::string> write_paths;
};

// What could not be put up, each with the reason; empty: all of it.
std::vector<std::string> enter_sandbox(const Policy& policy, int plugin_fd);

// ---- its two largest parts; empty: done, else why not ----
std::string restrict_files(const Policy& policy, int plugin_fd);  // landlock.cc
std::string restrict_calls(const Policy& policy);                 // seccomp.cc

}  // namespace limpet::shim
