// SPDX-License-Identifier: Apache-2.0
#pragma once
// The system's clock, never believed below the last known good time: a device without a battery boots in 1970, and what
// is still valid must not look as if it were not yet. The known good time comes from the store and moves only after
// contact with the authenticated server. Loop thread sets, any thread reads.

#include <algorithm>
#include <atomic>

#include "base/clock.h"

namespace limpet::agent {

class TrustedClock final : public Clock {
 public:
  explicit TrustedClock(const Clock& system) : system_(system) {}
  [[nodiscard]] int64_t now_ms() const override {
    return std::max(system_.now_ms(), floor_ms_.load(std::memory_order_relaxed));
  }
  // Unix seconds. Never moves back.
  void set_floor(int64_t unix_seconds) { floor_ms_ = std::max(floor_ms_.load(), unix_seconds * 1000); }
  // The system's clock stands before the known good time: it has not been set yet.
  [[nodiscard]] bool implausible() const { return system_.now_ms() < floor_ms_.load(std::memory_order_relaxed); }

 private:
  const Clock& system_;
  std::atomic<int64_t> floor_ms_{0};
};

}  // namespace limpet::agent
