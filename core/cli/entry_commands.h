// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `entry create`, `update`, `show`, `delete` and `count`.

#include "cli/command.h"

namespace limpet::cli {

inline constexpr size_t kEntryBatch = 500;  // entries a call; also SPIRE's page size

std::vector<Command> entry_commands();
Command entry_delete_command();  // one of them

}  // namespace limpet::cli
