// SPDX-License-Identifier: Apache-2.0
#pragma once
// A token bucket whose burst is its rate. A value; when to take what, and what then, is its owner's.

#include <algorithm>
#include <cstdint>

namespace limpet {

struct TokenBucket {
  double tokens = 0;  // below zero: promised to those who wait
  int64_t updated_ms = 0;

  // The tokens at `now_ms`, at `rate` a second.
  [[nodiscard]] double filled(double rate, int64_t now_ms) const {
    return std::min(rate, tokens + static_cast<double>(now_ms - updated_ms) * rate / 1000.0);
  }
};

}  // namespace limpet
