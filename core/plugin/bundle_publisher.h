// SPDX-License-Identifier: Apache-2.0
#pragma once
// Bundle publishers as the core sees them: places outside where the server leaves its trust bundle for others to read.
// The facade over the ABI implements it (plugin/bundle_publisher.cc); tests use fakes. Loop thread only.

#include <memory>
#include <string>

#include "loop/done.h"
#include "spiffe/bundle.h"

namespace limpet {

class BundlePublisher {
 public:
  virtual ~BundlePublisher() = default;
  [[nodiscard]] virtual const std::string& name() const = 0;
  // The whole bundle, in place of what was published before.
  virtual void publish(Bundle bundle, Done<void> done) = 0;
};

}  // namespace limpet
