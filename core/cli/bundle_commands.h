// SPDX-License-Identifier: Apache-2.0
#pragma once
// `bundle ...`: the server's own trust bundle, and those of the trust domains it federates with.

#include <vector>

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> bundle_commands();

}  // namespace limpet::cli
