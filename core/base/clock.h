// SPDX-License-Identifier: Apache-2.0
#pragma once
// The wall clock as an interface, so that validity, renewal and expiry can be tested at any moment.
// Any thread. Monotonic time for timers is the loop's.

#include <cstdint>

namespace limpet {

class Clock {
 public:
  virtual ~Clock() = default;
  // Unix time in milliseconds.
  [[nodiscard]] virtual int64_t now_ms() const = 0;
  // Milliseconds since some moment, suspended time included; whatever is done to the wall clock, it goes on.
  [[nodiscard]] virtual int64_t steady_ms() const = 0;
  // The time is known to be too early: nobody has set the clock yet.
  [[nodiscard]] virtual bool behind() const { return false; }
  // Unix time in whole seconds, rounded down.
  [[nodiscard]] int64_t now() const { return now_ms() / 1000; }
};

class SystemClock final : public Clock {
 public:
  [[nodiscard]] int64_t now_ms() const override;
  [[nodiscard]] int64_t steady_ms() const override;
};

// A clock that stands still until told; for tests.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(int64_t unix_seconds) : ms_(unix_seconds * 1000) {}
  [[nodiscard]] int64_t now_ms() const override { return ms_; }
  [[nodiscard]] int64_t steady_ms() const override { return steady_ms_; }
  void set(int64_t unix_seconds) { ms_ = unix_seconds * 1000; }
  void advance_ms(int64_t by) {
    ms_ += by;
    steady_ms_ += by;
  }

 private:
  int64_t ms_;
  int64_t steady_ms_ = 0;
};

// "2026-11-22 03:00:29 +0000 UTC", as the SPIRE commands print times.
class TimeText {
 public:
  explicit TimeText(int64_t unix_seconds);
  [[nodiscard]] const char* go() const { return go_; }            // "2026-11-22 03:00:29 +0000 UTC"
  [[nodiscard]] const char* rfc3339() const { return rfc3339_; }  // "2026-11-22T03:00:29Z"

 private:
  char go_[48];
  char rfc3339_[40];
};

}  // namespace limpet
