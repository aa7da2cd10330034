// SPDX-License-Identifier: Apache-2.0
// Node attestor "sshpop": proof of possession of the key of an SSH host certificate. Both halves.
#include "kit/halves.h"
#include "node_attestor_sshpop/halves.h"

namespace {

constexpr const limpet_component* kComponents[] = {&limpet::sshpop::kAgentHalf,
                                                   LIMPET_SERVER_HALF(&limpet::sshpop::kServerHalf) nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.nodeattestor.sshpop",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
