// SPDX-License-Identifier: Apache-2.0
// Workload attestor "unix": the plugin's descriptor and table. The work is in attest_unix.cc.
#include <limpet_plugin.h>

#include "kit/kit.h"
#include "workload_attestor_unix/attest_unix.h"

namespace {

using limpet::workload_attestor_unix::UnixAttestor;

UnixAttestor* self_of(limpet_instance* self) { return reinterpret_cast<UnixAttestor*>(self); }

limpet_code create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new UnixAttestor());
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
constexpr limpet_component kComponent = {
    sizeof(limpet_component), 0, LIMPET_WORKLOAD_ATTESTOR, "unix", create, destroy, configure, cancel, &kTable};
constexpr const limpet_component* kComponents[] = {&kComponent, nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.workloadattestor.unix",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
