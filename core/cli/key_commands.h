// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keys of the key manager for plugins: `key csr`. Main thread.

#include <vector>

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> key_commands();

}  // namespace limpet::cli
