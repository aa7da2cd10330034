// SPDX-License-Identifier: Apache-2.0
// Node attestor "http_challenge": proof that the agent answers HTTP requests at a DNS name. Both halves.
#include "kit/halves.h"
#include "node_attestor_http_challenge/halves.h"

namespace {

constexpr const limpet_component* kComponents[] = {&limpet::http_challenge::kAgentHalf,
                                                   LIMPET_SERVER_HALF(&limpet::http_challenge::kServerHalf) nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.nodeattestor.http-challenge",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
