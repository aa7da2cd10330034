// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `logger get`, `set` and `reset`: the log level of a running server or agent.

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> logger_commands();

}  // namespace limpet::cli
