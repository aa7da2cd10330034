// SPDX-License-Identifier: Apache-2.0
#pragma once
// The man page and the shell completion, made from the table of commands so that they cannot fall behind it.

#include <string>

#include "cli/command.h"

namespace limpet::cli {

std::string manual_page();      // limpet(1), in man(7) macros
std::string bash_completion();  // to be sourced: commands first, then the flags of the command typed

std::vector<Command> manual_commands();

}  // namespace limpet::cli
