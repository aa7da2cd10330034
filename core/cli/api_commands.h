// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `api fetch x509` (and `api fetch`) and `api watch`: a workload's view of the Workload API.

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> api_commands();

}  // namespace limpet::cli
