// SPDX-License-Identifier: Apache-2.0
#pragma once
// The facade over the workload attestor table. Owned by the Catalog. Loop thread only. Errors carry the prefix
// "workloadattestor(<name>): ".

#include <memory>

#include "plugin/attestor.h"
#include "plugin/instance.h"

namespace limpet {

inline constexpr std::string_view kWorkloadAttestorPrefix = "workloadattestor";

// The instance must be configured already.
std::unique_ptr<WorkloadAttestor> make_workload_attestor(std::shared_ptr<Instance> instance);

}  // namespace limpet
