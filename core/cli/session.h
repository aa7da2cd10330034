// SPDX-License-Identifier: Apache-2.0
#pragma once
// What nearly every command begins with: the output asked for, the socket, the connection.

#include <functional>

#include "cli/output.h"
#include "cli/rpc.h"

namespace limpet::cli {

// Runs `body(Rpc&, bool json)` against the role's socket; flags that are wrong end the command with 1 before that.
int with_rpc(Context& context, unsigned role, const std::function<int(Rpc& rpc, bool json)>& body);

}  // namespace limpet::cli
