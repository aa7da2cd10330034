// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `entry create`, `update`, `show`, `delete` and `count`.

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> entry_commands();

}  // namespace limpet::cli
