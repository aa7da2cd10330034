// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `token generate`, `bundle show` and `count`, `x509 mint` and `jwt mint`.

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> server_commands();

}  // namespace limpet::cli
