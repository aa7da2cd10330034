// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a running role takes over from a configuration that was read anew (SIGHUP), and what it cannot. Pure.

#include <string>
#include <vector>

#include "config/config.h"

namespace limpet {

struct ReloadedKeys {
  std::vector<std::string> taken;    // "log_level", "ratelimit.signing", "federation.federates_with"
  std::vector<std::string> refused;  // changed in the file, and in force only after a restart
};

// Copies into `running` what may change while the role runs, and names every key that differs.
ReloadedKeys reload(ServerConfig& running, const ServerConfig& next);
ReloadedKeys reload(AgentConfig& running, const AgentConfig& next);
// Plugins keep what they were started with: whether the file has others now.
bool same_plugins(const std::vector<PluginConfig>& running, const std::vector<PluginConfig>& next);

}  // namespace limpet
