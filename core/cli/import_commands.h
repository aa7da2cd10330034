// SPDX-License-Identifier: Apache-2.0
#pragma once
// Configurations of SPIRE: `config import`, and the same on the fly where a configuration is loaded. Main thread.

#include <vector>

#include "cli/command.h"
#include "config/config.h"

namespace limpet::cli {

std::vector<Command> import_commands();

// The file of -config, its variables replaced when -expandEnv says so. A file of SPIRE is imported, and what has no
// counterpart is told on standard error; keys that SPIRE does not know either stop it, in SPIRE's words.
Result<Config> load_configured(const Context& context, const ConfigAdjust& adjust = {});

}  // namespace limpet::cli
