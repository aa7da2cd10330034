// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `agent list`, `count`, `show`, `ban`, `evict` and `purge`: the server's view of its agents.

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> agent_commands();

}  // namespace limpet::cli
