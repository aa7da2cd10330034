// SPDX-License-Identifier: Apache-2.0
#pragma once
// `federation ...`: relationships with other trust domains, whose bundles the server fetches by itself.

#include <vector>

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> federation_commands();

}  // namespace limpet::cli
