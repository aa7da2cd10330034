// SPDX-License-Identifier: Apache-2.0
#pragma once
// A loop for tests: nothing happens until the test says so. Tasks run in run_ready(), worker jobs run in run_workers()
// (or by run_ready() when `eager_workers` is set, the default), time passes in advance(). One thread.

#include <deque>
#include <mutex>

#include "loop/loop.h"

namespace limpet {

class FakeLoop final : public Loop {
 public:
  FakeLoop() = default;
  ~FakeLoop() override;  // drops what never ran

  void post(Task task) override;  // [any thread]
  [[nodiscard]] int64_t now_ms() const override { return now_ms_; }
  void submit(std::unique_ptr<WorkerJob> job) override;

  // Runs tasks (and eager worker jobs) until none is left. Returns how many ran.
  size_t run_ready();
  // Runs one task or worker job; false: nothing was ready.
  bool run_one();
  // Runs the worker jobs handed in so far, and queues their finish().
  size_t run_workers();
  // Lets `ms` pass, firing timers in order and running what becomes ready.
  void advance(int64_t ms);
  // Lets time pass until the next timer and fires it, with those of the same moment; false: no timer is running.
  bool run_next_timer();

  bool eager_workers = true;

 protected:
  void timers_changed(int64_t) override {}

 private:
  void run_job();
  std::mutex mutex_;  // guards tasks_
  std::deque<Task> tasks_;
  std::deque<std::unique_ptr<WorkerJob>> jobs_;
  int64_t now_ms_ = 1'000'000;
};

}  // namespace limpet
