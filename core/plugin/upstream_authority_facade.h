// SPDX-License-Identifier: Apache-2.0
#pragma once
// The facade over the upstream authority table. Owned by the Catalog; a watch may outlive it and is then silent. Loop
// thread only. Errors carry the prefix "upstreamauthority(<name>): ".

#include <memory>

#include "plugin/instance.h"
#include "plugin/upstream_authority.h"

namespace limpet {

inline constexpr std::string_view kUpstreamAuthorityPrefix = "upstreamauthority";

// The instance must be configured already.
std::unique_ptr<UpstreamAuthority> make_upstream_authority(std::shared_ptr<Instance> instance);

}  // namespace limpet
