// SPDX-License-Identifier: Apache-2.0
#pragma once
// The real event loop, on libuv. Owned by main (or a command); run() returns after stop(). One thread.
// What uses the loop (streams, listeners, timers) is destroyed before it. Making one ignores SIGPIPE in the process: a
// write to a vanished peer is an error of that write.

#include <atomic>
#include <memory>

#include "loop/loop.h"

struct uv_loop_s;

namespace limpet {

class UvLoop final : public Loop {
 public:
  UvLoop();
  ~UvLoop() override;  // closes what is left open and runs the close callbacks
  UvLoop(const UvLoop&) = delete;
  UvLoop& operator=(const UvLoop&) = delete;

  void post(Task task) override;
  [[nodiscard]] int64_t now_ms() const override;
  void submit(std::unique_ptr<WorkerJob> job) override;

  void run();   // until stop()
  void stop();  // [any thread] run() returns after the current turn
  // Calls `task` on the loop thread for each delivery of the signal, until the loop dies.
  Result<void> on_signal(int signal, std::move_only_function<void()> task);

  [[nodiscard]] uv_loop_s* raw();

 protected:
  void timers_changed(int64_t next_ms) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace limpet
