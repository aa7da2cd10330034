// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include <cstdio>
#include <ctime>

namespace limpet {

int64_t SystemClock::now_ms() const {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<int64_t>(time.tv_sec) * 1000 + time.tv_nsec / 1'000'000;
}

int64_t SystemClock::steady_ms() const {
  timespec time{};
  clock_gettime(CLOCK_BOOTTIME, &time);
  return static_cast<int64_t>(time.tv_sec) * 1000 + time.tv_nsec / 1'000'000;
}

TimeText::TimeText(int64_t unix_seconds) {
  const auto time = static_cast<time_t>(unix_seconds);
  tm parts{};
  if (time != unix_seconds || gmtime_r(&time, &parts) == nullptr) {
    // a year that does not fit an int; no certificate has one
    std::snprintf(go_, sizeof go_, "(time %lld)", static_cast<long long>(unix_seconds));
    std::snprintf(rfc3339_, sizeof rfc3339_, "(time %lld)", static_cast<long long>(unix_seconds));
    return;
  }
  const long long year = parts.tm_year + 1900LL;
  std::snprintf(go_, sizeof go_, "%04lld-%02d-%02d %02d:%02d:%02d +0000 UTC", year, parts.tm_mon + 1, parts.tm_mday,
                parts.tm_hour, parts.tm_min, parts.tm_sec);
  std::snprintf(rfc3339_, sizeof rfc3339_, "%04lld-%02d-%02dT%02d:%02d:%02dZ", year, parts.tm_mon + 1, parts.tm_mday,
                parts.tm_hour, parts.tm_min, parts.tm_sec);
}

}  // namespace limpet
