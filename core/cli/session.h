// SPDX-License-Identifier: Apache-2.0
#pragma once
// What nearly every command begins with: the output asked for, the socket, the connection.

#include "cli/output.h"
#include "cli/rpc.h"

namespace limpet::cli {

// Runs `body(Rpc&, bool json)` against the role's socket; flags that are wrong end the command with 1 before that.
template <class Body>
int with_rpc(Context& context, unsigned role, Body body) {
  const auto json = wants_json(*context.flags);
  if (!json) return failed(json.error());
  const auto socket = socket_path(context, role);
  if (!socket) return failed(socket.error());
  Rpc rpc(*socket, role);
  return body(rpc, *json);
}

}  // namespace limpet::cli
