// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `run` and `validate`. They read the configuration, let flags override it and hand it to what main() gave
// dispatch() (a Runner): this folder does not know how a server or an agent works inside.

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> run_commands();

}  // namespace limpet::cli
