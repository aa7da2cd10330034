// SPDX-License-Identifier: Apache-2.0
#pragma once
// Pauses between attempts: each 1.5 times the one before up to a ceiling, spread by 10 % so that many agents that lost
// the same server do not come back together. A value; loop thread only.

#include <sys/random.h>

#include <algorithm>
#include <cstdint>

namespace limpet {

// `ms` plus or minus at most `percent`.
inline int64_t spread(int64_t ms, int64_t percent) {
  uint32_t random = 0;
  if (::getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random) return ms;  // none at an early boot
  const int64_t width = ms * percent / 100;
  return width <= 0 ? ms : ms - width + static_cast<int64_t>(random) % (2 * width + 1);
}

class Backoff {
 public:
  Backoff(int64_t first_ms, int64_t most_ms) : first_(first_ms), most_(most_ms), next_(first_ms) {}
  // The pause before the next attempt.
  int64_t pause() {
    const int64_t now = next_;
    next_ = std::min(most_, next_ + next_ / 2);
    return spread(now, 10);
  }
  void reset() { next_ = first_; }

 private:
  int64_t first_;
  int64_t most_;
  int64_t next_;
};

}  // namespace limpet
