// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `debug getinfo` of server and agent.

#include <vector>

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> debug_commands();

}  // namespace limpet::cli
