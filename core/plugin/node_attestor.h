// SPDX-License-Identifier: Apache-2.0
#pragma once
// The facades over the node attestor tables. Owned by the Catalog; the sessions they open must not outlive the loop.
// Loop thread only. Errors carry the prefix "nodeattestor(<name>): ".

#include <memory>

#include "plugin/attestor.h"
#include "plugin/instance.h"

namespace limpet {

inline constexpr std::string_view kNodeAttestorPrefix = "nodeattestor";

// The instance must be configured already.
std::unique_ptr<NodeAttestorAgent> make_node_attestor_agent(std::shared_ptr<Instance> instance);
std::unique_ptr<NodeAttestorServer> make_node_attestor_server(std::shared_ptr<Instance> instance);

}  // namespace limpet
