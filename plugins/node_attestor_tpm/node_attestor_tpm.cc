// SPDX-License-Identifier: Apache-2.0
// Node attestor "tpm": a machine is known by the endorsement key of its TPM. Both halves.
#include "node_attestor_tpm/halves.h"

namespace {

constexpr const limpet_component* kComponents[] = {&limpet::tpm_attestor::kAgentHalf,
                                                   &limpet::tpm_attestor::kServerHalf, nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.nodeattestor.tpm",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
