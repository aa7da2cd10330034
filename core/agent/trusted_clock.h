// SPDX-License-Identifier: Apache-2.0
#pragma once
// The system's clock, never believed below the last known good time: a device without a battery boots in 1970, and what
// is still valid must not look as if it were not yet. The known good time comes from the store and moves only after
// contact with the authenticated server. While the system's clock stands below it, time goes on from it by the
// monotonic clock, so that what falls due is still done. Loop thread sets, any thread reads.

#include <algorithm>
#include <atomic>

#include "base/clock.h"

namespace limpet::agent {

class TrustedClock final : public Clock {
 public:
  explicit TrustedClock(const Clock& system) : system_(system) {}
  [[nodiscard]] int64_t now_ms() const override {
    const int64_t system = system_.now_ms();
    const int64_t floor = floor_ms_.load(std::memory_order_relaxed);
    if (system >= floor) return system;
    return std::max(floor, offset_ms_.load(std::memory_order_relaxed) + system_.steady_ms());
  }
  [[nodiscard]] int64_t steady_ms() const override { return system_.steady_ms(); }
  // Unix seconds. Never moves back.
  void set_floor(int64_t unix_seconds) {
    const int64_t floor = unix_seconds * 1000;
    if (floor <= floor_ms_.load()) return;
    offset_ms_ = floor - steady_ms();
    floor_ms_ = floor;
  }
  // The system's clock stands before the known good time.
  [[nodiscard]] bool behind() const override { return system_.now_ms() < floor_ms_.load(std::memory_order_relaxed); }

 private:
  const Clock& system_;
  std::atomic<int64_t> floor_ms_{0};
  std::atomic<int64_t> offset_ms_{0};  // from the steady clock to the time that has passed since the floor was set
};

}  // namespace limpet::agent
