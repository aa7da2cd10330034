// SPDX-License-Identifier: Apache-2.0
#pragma once
// The command `healthcheck`, for server and agent.

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> health_commands();

}  // namespace limpet::cli
