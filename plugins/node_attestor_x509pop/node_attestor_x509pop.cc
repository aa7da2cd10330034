// SPDX-License-Identifier: Apache-2.0
// Node attestor "x509pop": proof of possession of the key of a certificate that another PKI issued. Both halves.
#include "kit/halves.h"
#include "node_attestor_x509pop/halves.h"

namespace {

constexpr const limpet_component* kComponents[] = {&limpet::x509pop::kAgentHalf,
                                                   LIMPET_SERVER_HALF(&limpet::x509pop::kServerHalf) nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.nodeattestor.x509pop",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
