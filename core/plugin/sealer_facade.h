// SPDX-License-Identifier: Apache-2.0
#pragma once
// The facade over the sealer table. Owned by the Catalog. Loop thread only. Errors carry the prefix "sealer(<name>): ".

#include <memory>

#include "plugin/instance.h"
#include "plugin/sealer.h"

namespace limpet {

inline constexpr std::string_view kSealerPrefix = "sealer";

// The instance must be configured already.
std::unique_ptr<Sealer> make_sealer(std::shared_ptr<Instance> instance);

}  // namespace limpet
