// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `localauthority x509|jwt ...` and `upstreamauthority ...`: the operator's hand on the authorities.

#include <vector>

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> authority_commands();

}  // namespace limpet::cli
