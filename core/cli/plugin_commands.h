// SPDX-License-Identifier: Apache-2.0
#pragma once
// plugin list: what is configured and what is built in. plugin describe: what a plugin's file says of itself. Plugins
// from files are only ever loaded in a throw-away process.

#include <vector>

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> plugin_commands();

}  // namespace limpet::cli
