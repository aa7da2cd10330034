// SPDX-License-Identifier: Apache-2.0
// Workload attestor "systemd": the plugin's descriptor and table. The work is in attest_systemd.cc.
#include <limpet_plugin.h>

#include "kit/kit.h"
#include "workload_attestor_systemd/attest_systemd.h"

namespace {

using limpet::workload_attestor_systemd::SystemdAttestor;

SystemdAttestor* self_of(limpet_instance* self) { return reinterpret_cast<SystemdAttestor*>(self); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new SystemdAttestor(host));
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet::kit::end(op, done, self_of(self)->configure(*config));
}

void cancel(limpet_instance* self, limpet_op* op) { self_of(self)->cancel(op); }

void attest(limpet_instance* self, limpet_op* op, const limpet_workload* workload, limpet_selectors_done done) {
  self_of(self)->attest(op, *workload, done);
}

constexpr limpet_workload_attestor kTable = {sizeof(limpet_workload_attestor), 0, attest};
constexpr limpet_component kComponent = {sizeof(limpet_component),
                                         LIMPET_BLOCKING,
                                         LIMPET_WORKLOAD_ATTESTOR,
                                         "systemd",
                                         create,
                                         destroy,
                                         configure,
                                         cancel,
                                         &kTable};
constexpr const limpet_component* kComponents[] = {&kComponent, nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.workloadattestor.systemd",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
