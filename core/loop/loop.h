// SPDX-License-Identifier: Apache-2.0
#pragma once
// The event loop as an interface: tasks, timers, worker jobs and monotonic time. UvLoop (loop/uv_loop.h) is the real
// one, FakeLoop (loop/fake_loop.h) the one for tests, where time and workers advance only when told. Everything is
// called on the loop's thread except post(), which any thread may call.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "loop/done.h"

namespace limpet {

class Loop;

// A one-shot timer; a member of the one who waits. Destroying or restarting it cancels. The callback may destroy it.
class Timer {
 public:
  explicit Timer(Loop& loop) : loop_(loop) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { stop(); }

  // Calls (object->*Method)() once, `ms` milliseconds from now (0: at the next turn of the loop).
  template <auto Method, class C>
  void start(int64_t ms, C* object) {
    arm(ms, object, [](void* self) { (static_cast<C*>(self)->*Method)(); });
  }
  void stop();
  [[nodiscard]] bool running() const { return running_; }

 private:
  friend class Loop;
  void arm(int64_t ms, void* object, void (*call)(void*));
  Loop& loop_;
  void* object_ = nullptr;
  void (*call_)(void*) = nullptr;
  std::multimap<int64_t, Timer*>::iterator place_;
  uint64_t round_ = 0;  // the loop's round of timers in which it was started
  bool running_ = false;
};

// A job for a worker thread: run() there, then finish() on the loop thread, then destroyed on the loop thread.
class WorkerJob {
 public:
  virtual ~WorkerJob() = default;
  virtual void run() = 0;
  virtual void finish() = 0;
};

// A conversation that nobody holds, such as a dial whose asker keeps only his Pending: see Loop::keep().
class LoopGuest {
 public:
  virtual ~LoopGuest() = default;
};

class Loop {
 public:
  using Task = std::move_only_function<void()>;

  virtual ~Loop() = default;
  // [any thread] Runs the task on the loop thread, later, in the order posted.
  virtual void post(Task task) = 0;
  // Monotonic milliseconds.
  [[nodiscard]] virtual int64_t now_ms() const = 0;
  // Hands a job to the worker pool. No job may wait for another pool job.
  virtual void submit(std::unique_ptr<WorkerJob> job) = 0;

  // Runs `work` (a callable returning Result<T>) on a worker and delivers what it returned. `work` must own
  // everything it touches: the one who waits may be gone when it runs.
  template <class T, class Work>
  void work(Work work, Done<T> done);

  // The guest lives until it is dismissed (destroyed at a later turn) or the loop ends.
  void keep(std::unique_ptr<LoopGuest> guest);
  void dismiss(LoopGuest& guest);

 protected:
  // For the destructors of implementations, first of all.
  void drop_guests();
  // For implementations: the earliest timer's time changed; -1: no timer left.
  virtual void timers_changed(int64_t next_ms) = 0;
  [[nodiscard]] int64_t next_timer() const { return timers_.empty() ? -1 : timers_.begin()->first; }
  // Fires every timer that was due at `now_ms` when called.
  void run_timers(int64_t now_ms);

 private:
  friend class Timer;
  std::multimap<int64_t, Timer*> timers_;
  std::vector<std::unique_ptr<LoopGuest>> guests_;
  uint64_t timer_round_ = 0;
};

template <class T, class Work>
void Loop::work(Work work, Done<T> done) {
  struct Job final : WorkerJob {
    Job(Work w, Done<T> d) : work(std::move(w)), done(std::move(d)) {}
    void run() override { result = work(); }
    void finish() override { done(std::move(result)); }
    Work work;
    Done<T> done;
    Result<T> result = std::unexpected(Error{Code::internal, "worker job did not run"});
  };
  submit(std::make_unique<Job>(std::move(work), std::move(done)));
}

}  // namespace limpet
