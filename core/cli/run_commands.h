// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `run` and `validate`. They read the configuration, let flags override it and hand it to what main() gave
// them: this folder does not know how a server or an agent works inside.

#include <string>

#include "cli/command.h"
#include "config/config.h"

namespace limpet::cli {

// What runs the roles, given by main(): blocks until a signal ends it. Returns the exit code.
struct Runner {
  int (*run)(const Config& config);
  // Checks what only the roles know (plugins and their data, by a dry run). Nothing is started or written.
  Result<void> (*check)(const Config& config);
};
void set_runner(const Runner& runner);

std::vector<Command> run_commands();

}  // namespace limpet::cli
