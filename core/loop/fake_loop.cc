// SPDX-License-Identifier: Apache-2.0
#include "loop/fake_loop.h"

#include <algorithm>

namespace limpet {

FakeLoop::~FakeLoop() {
  drop_guests();
  // what is dropped may post once more: a dropped Done tells its waiter
  while (true) {
    std::deque<Task> tasks;
    std::deque<std::unique_ptr<WorkerJob>> jobs;
    {
      const std::lock_guard lock(mutex_);
      tasks.swap(tasks_);
    }
    jobs.swap(jobs_);
    if (tasks.empty() && jobs.empty()) return;
  }
}

void FakeLoop::post(Task task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
}

void FakeLoop::submit(std::unique_ptr<WorkerJob> job) { jobs_.push_back(std::move(job)); }

bool FakeLoop::run_one() {
  Task task;
  {
    const std::lock_guard lock(mutex_);
    if (!tasks_.empty()) {
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
  }
  if (task) {
    task();
    return true;
  }
  if (!eager_workers || jobs_.empty()) return false;
  run_job();
  return true;
}

void FakeLoop::run_job() {
  std::unique_ptr<WorkerJob> job = std::move(jobs_.front());
  jobs_.pop_front();
  job->run();
  post([job = std::move(job)] { job->finish(); });
}

size_t FakeLoop::run_ready() {
  size_t ran = 0;
  while (run_one()) ran++;
  return ran;
}

size_t FakeLoop::run_workers() {
  const size_t count = jobs_.size();  // a job cannot hand in another one: it runs on a worker
  for (size_t i = 0; i < count; i++) run_job();
  return count;
}

bool FakeLoop::run_next_timer() {
  const int64_t next = next_timer();
  if (next < 0) return false;
  now_ms_ = std::max(now_ms_, next);
  run_timers(now_ms_);
  return true;
}

void FakeLoop::advance(int64_t ms) {
  const int64_t target = now_ms_ + ms;
  run_ready();
  while (next_timer() >= 0 && next_timer() <= target) {
    run_next_timer();
    run_ready();
  }
  now_ms_ = target;
}

}  // namespace limpet
