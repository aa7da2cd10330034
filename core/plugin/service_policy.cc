// SPDX-License-Identifier: Apache-2.0
#include "plugin/service_policy.h"

#include <limpet_plugin.h>

#include "plugin/shim_wire.h"

namespace limpet {
namespace {

using enum shim::Service;
constexpr uint32_t operator|(shim::Service a, shim::Service b) {
  return static_cast<uint32_t>(a) | static_cast<uint32_t>(b);
}
constexpr uint32_t operator|(uint32_t a, shim::Service b) { return a | static_cast<uint32_t>(b); }

constexpr uint32_t kNetwork = http | grpc;

}  // namespace

uint32_t allowed_services(std::string_view interface_id, bool network) {
  const uint32_t wished = network ? kNetwork : 0;
  if (interface_id == LIMPET_NODE_ATTESTOR_AGENT) return kv | keys | seal | wished;
  if (interface_id == LIMPET_NODE_ATTESTOR_SERVER)
    return kNetwork | kv | keys | seal | identity | agent_store | enrollment;
  if (interface_id == LIMPET_UPSTREAM_AUTHORITY) return kNetwork | kv | keys | seal | identity;
  if (interface_id == LIMPET_BUNDLE_PUBLISHER) return kNetwork | kv | identity;
  if (interface_id == LIMPET_KEY_MANAGER) return (kv | seal) | wished;
  if (interface_id == LIMPET_SEALER) return static_cast<uint32_t>(kv) | wished;
  return static_cast<uint32_t>(kv);  // a workload attestor
}

}  // namespace limpet
