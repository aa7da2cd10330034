// SPDX-License-Identifier: Apache-2.0
#pragma once
// Log lines that a stranger can cause at will (refused connections, calls and attestations) are bounded, so that nobody
// fills the disk from outside. Owned by whoever logs; loop thread only.

#include <cstdint>
#include <string>

#include "report/log.h"

namespace limpet::server {

class LogBudget {
 public:
  static constexpr int kLinesPerSecond = 20;

  // True: log it. What was left out in the seconds before is told first.
  bool allows(Logger& logger, int64_t now_ms) {
    if (now_ms - window_ms_ >= 1000) {
      if (left_out_ > 0) logger.warn("Log lines left out: too many refusals", {{"count", std::to_string(left_out_)}});
      window_ms_ = now_ms;
      lines_ = 0;
      left_out_ = 0;
    }
    if (++lines_ <= kLinesPerSecond) return true;
    left_out_++;
    return false;
  }
  [[nodiscard]] uint64_t left_out() const { return left_out_; }

 private:
  int64_t window_ms_ = -1000;
  int lines_ = 0;
  uint64_t left_out_ = 0;
};

}  // namespace limpet::server
