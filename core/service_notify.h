// SPDX-License-Identifier: Apache-2.0
#pragma once
// Tells a service manager how the process is (sd_notify(3)): READY, RELOADING, STOPPING, a status line, and the
// watchdog's sign of life, sent from the loop so that a loop that hangs is noticed. One datagram to the socket in
// NOTIFY_SOCKET; without one nothing is sent. Never blocks: what the manager does not take is lost. Owned by main; loop
// thread only.

#include <string>
#include <string_view>

#include "base/result.h"
#include "loop/loop.h"

namespace limpet {

class ServiceNotify {
 public:
  // Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and begins to feed the watchdog.
  explicit ServiceNotify(Loop& loop);
  ~ServiceNotify();
  ServiceNotify(const ServiceNotify&) = delete;
  ServiceNotify& operator=(const ServiceNotify&) = delete;
  // UNAVAILABLE or INVALID_ARGUMENT: NOTIFY_SOCKET names no socket that can be used; it is then as without one.
  [[nodiscard]] const Result<void>& usable() const { return usable_; }

  void ready();
  void reloading();  // ready() follows
  void stopping();
  // One line, for people; sent when it is another than the last.
  void status(const std::string& text);

 private:
  Result<void> open(const char* path);
  void send(std::string_view lines);
  void on_watchdog();

  int socket_ = -1;
  int64_t watchdog_ms_ = 0;  // 0: none; else half of the time within which a sign is due
  std::string status_;
  Timer timer_;
  Result<void> usable_;
};

}  // namespace limpet
