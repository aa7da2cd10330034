// SPDX-License-Identifier: Apache-2.0
#pragma once
// The process: starts the roles one after the other (an agent beside a server finds it there), follows signals (SIGINT
// and SIGTERM stop, SIGHUP reads the configuration anew, SIGUSR2 opens the log files anew), tells the service manager,
// and stops the roles in reverse. Owned by main; loop thread only.

#include <memory>
#include <vector>

#include "base/clock.h"
#include "cli/command.h"
#include "config/config.h"
#include "loop/uv_loop.h"
#include "report/health.h"
#include "report/log.h"
#include "service_notify.h"

namespace limpet {

// What both roles are to the daemon.
class Role {
 public:
  virtual ~Role() = default;
  virtual void start(Done<void> done) = 0;
  virtual void stop(Done<void> done) = 0;
  // Takes over what may change while it runs, and says what it took and what not.
  virtual void reload(const Config& next) = 0;
  [[nodiscard]] virtual const Health& health() const = 0;
  [[nodiscard]] virtual const char* name() const = 0;
  virtual Logger& logger() = 0;
};

class Daemon {
 public:
  explicit Daemon(const cli::ReloadConfig& reload) : reload_(reload), notify_(loop_), status_timer_(loop_) {}
  UvLoop& loop() { return loop_; }
  [[nodiscard]] const Clock& clock() const { return clock_; }
  void add(std::unique_ptr<Role> role) { roles_.push_back(std::move(role)); }
  Result<void> follow_signals();
  int run();  // until it is told to stop; the exit code

 private:
  void start_next();
  void on_started(Result<void> started);
  void stop();
  void stop_next();
  void on_stopped(Result<void> stopped);
  void reload();
  void tell_status();
  void reopen_logs();

  // The loop's destructor waits for jobs on worker threads, and a handshake there still asks for the time: the clock is
  // destroyed after the loop, the roles before it.
  SystemClock clock_;
  UvLoop loop_;
  const cli::ReloadConfig& reload_;
  ServiceNotify notify_;
  Timer status_timer_;
  std::vector<std::unique_ptr<Role>> roles_;
  Pending<void> start_;
  Pending<void> stop_;
  size_t started_ = 0;
  size_t stopped_ = 0;
  bool stopping_ = false;
  int exit_code_ = 0;
};

}  // namespace limpet
