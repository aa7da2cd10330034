// SPDX-License-Identifier: Apache-2.0
#pragma once
// The facade over the bundle publisher table. Owned by the Catalog. Loop thread only. Errors carry the prefix
// "bundlepublisher(<name>): ".

#include <memory>

#include "plugin/bundle_publisher.h"
#include "plugin/instance.h"

namespace limpet {

inline constexpr std::string_view kBundlePublisherPrefix = "bundlepublisher";

// The instance must be configured already.
std::unique_ptr<BundlePublisher> make_bundle_publisher(std::shared_ptr<Instance> instance);

}  // namespace limpet
