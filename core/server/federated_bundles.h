// SPDX-License-Identifier: Apache-2.0
#pragma once
// The methods of spire.api.server.bundle.v1.Bundle on bundles of other trust domains (wire notes 5.4): one flow each,
// opened by BundleApi. Loop thread only.

#include <memory>

#include "server/context.h"
#include "wire/grpc.h"

namespace limpet::server {

std::unique_ptr<wire::ServerFlow> open_list_federated(Context& context, wire::ServerCall& call);
std::unique_ptr<wire::ServerFlow> open_get_federated(Context& context, wire::ServerCall& call);
std::unique_ptr<wire::ServerFlow> open_create_federated(Context& context, wire::ServerCall& call);
std::unique_ptr<wire::ServerFlow> open_update_federated(Context& context, wire::ServerCall& call);
std::unique_ptr<wire::ServerFlow> open_set_federated(Context& context, wire::ServerCall& call);
std::unique_ptr<wire::ServerFlow> open_delete_federated(Context& context, wire::ServerCall& call);

}  // namespace limpet::server
