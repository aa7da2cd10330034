// SPDX-License-Identifier: Apache-2.0
// Node attestor "tpm_devid": a machine is known by a certificate (IEEE 802.1AR) of a key in its TPM. Both halves.
#include "node_attestor_tpm_devid/halves.h"

namespace {

constexpr const limpet_component* kComponents[] = {&limpet::tpm_devid::kAgentHalf, &limpet::tpm_devid::kServerHalf,
                                                   nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.nodeattestor.tpm_devid",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
