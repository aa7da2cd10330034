// SPDX-License-Identifier: Apache-2.0
// Tasks are run by a prepare and a check handle, that is before and after each poll, so that a task posted by the
// loop's own thread costs no system call. Only other threads wake the poll, through an async handle.
#include "loop/uv_loop.h"

#include <csignal>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <vector>

#include "loop/uv_internal.h"

namespace limpet {
namespace {

constexpr int kTaskRounds = 8;  // tasks that post tasks: how long they go on before sockets get their turn

struct SignalWatch {
  UvHandle<uv_signal_t> handle;
  std::move_only_function<void()> task;
};

}  // namespace

struct UvLoop::State {
  struct Running {
    uv_work_t request{};
    State* state = nullptr;
    std::unique_ptr<WorkerJob> job;
  };

  UvLoop* owner = nullptr;
  uv_loop_t loop{};
  UvShared shared;
  UvHandle<uv_async_t> wake;
  UvHandle<uv_timer_t> timer;
  UvHandle<uv_prepare_t> before_poll;
  UvHandle<uv_check_t> after_poll;
  std::vector<std::unique_ptr<SignalWatch>> signals;
  std::unordered_set<Running*> running;
  int64_t armed_for = -1;
  bool closing = false;
  std::atomic<bool> stop{false};
  std::atomic<std::thread::id> thread;

  std::mutex mutex;
  std::deque<Task> tasks;  // guarded by mutex
  bool dead = false;       // guarded by mutex: nothing runs tasks any more

  std::deque<Task> take_tasks() {
    const std::lock_guard lock(mutex);
    return std::exchange(tasks, {});
  }
  void run_tasks();
  void drop_tasks();
  void close();
  static void on_work_done(uv_work_t* request, int status);
};

void UvLoop::State::run_tasks() {
  if (closing) return;
  for (int round = 0; round < kTaskRounds; round++) {
    std::deque<Task> batch = take_tasks();
    if (batch.empty()) return;
    while (!batch.empty()) {
      Task task = std::move(batch.front());
      batch.pop_front();
      task();
    }
  }
  uv_async_send(wake.get());
}

// What is dropped may post once more: a dropped Done tells its waiter.
void UvLoop::State::drop_tasks() {
  while (true) {
    const std::deque<Task> batch = take_tasks();
    if (batch.empty()) return;
  }
}

UvLoop::UvLoop() : state_(std::make_unique<State>()) {
  State& s = *state_;
  (void)std::signal(SIGPIPE, SIG_IGN);
  if (uv_loop_init(&s.loop) != 0) std::abort();  // no descriptors at start: nothing could be served
  s.owner = this;
  s.loop.data = &s.shared;
  s.wake = make_uv_handle<uv_async_t>([&](uv_async_t* h) {
    return uv_async_init(&s.loop, h, [](uv_async_t* async) {
      auto* state = static_cast<State*>(async->data);
      if (state != nullptr && state->stop) uv_stop(&state->loop);
    });
  });
  if (!s.wake) std::abort();
  s.timer = make_uv_handle<uv_timer_t>([&](uv_timer_t* h) { return uv_timer_init(&s.loop, h); });
  s.before_poll = make_uv_handle<uv_prepare_t>([&](uv_prepare_t* h) { return uv_prepare_init(&s.loop, h); });
  s.after_poll = make_uv_handle<uv_check_t>([&](uv_check_t* h) { return uv_check_init(&s.loop, h); });
  s.wake->data = s.timer->data = s.before_poll->data = s.after_poll->data = &s;
  uv_prepare_start(s.before_poll.get(), [](uv_prepare_t* h) {
    if (h->data != nullptr) static_cast<State*>(h->data)->run_tasks();
  });
  uv_check_start(s.after_poll.get(), [](uv_check_t* h) {
    if (h->data != nullptr) static_cast<State*>(h->data)->run_tasks();
  });
}

UvLoop::~UvLoop() {
  drop_guests();
  state_->close();
  int left = UV_EBUSY;
  for (int turn = 0; turn < 16 && left == UV_EBUSY; turn++) {
    uv_run(&state_->loop, UV_RUN_NOWAIT);
    state_->drop_tasks();
    left = uv_loop_close(&state_->loop);
  }
  {
    const std::lock_guard lock(state_->mutex);
    state_->dead = true;
  }
  state_->drop_tasks();
  // A stream that outlives the loop is its owner's mistake; a leak does less harm than a handle in freed memory.
  if (left == UV_EBUSY) (void)state_.release();
}

void UvLoop::State::close() {
  closing = true;
  uv_timer_stop(timer.get());
  signals.clear();
  while (!shared.operations.empty()) (void)std::exchange(shared.operations, {});  // a dropped one may start another
  for (Running* job : running) uv_cancel(reinterpret_cast<uv_req_t*>(&job->request));
  // A job that runs already is waited for. It may itself wait for a task it posted: dropping the task tells it.
  drop_tasks();
  while (shared.requests > 0) {
    uv_run(&loop, UV_RUN_ONCE);
    drop_tasks();
  }
  timer.reset();
  before_poll.reset();
  after_poll.reset();
  const std::lock_guard lock(mutex);  // post() touches it from other threads
  wake.reset();
}

void UvLoop::post(Task task) {
  State& s = *state_;
  {
    const std::lock_guard lock(s.mutex);
    if (!s.dead) {
      s.tasks.push_back(std::move(task));
      if (s.thread.load() != std::this_thread::get_id() && s.wake) uv_async_send(s.wake.get());
      return;
    }
  }
  task = nullptr;  // outside the lock: dropping a task may post
}

int64_t UvLoop::now_ms() const { return static_cast<int64_t>(uv_hrtime() / 1'000'000); }

void UvLoop::submit(std::unique_ptr<WorkerJob> job) {
  State& s = *state_;
  auto running = std::make_unique<State::Running>();
  running->state = &s;
  running->job = std::move(job);
  running->request.data = running.get();
  if (s.closing) return;  // the job is dropped, and with it its Done
  const auto work = [](uv_work_t* request) { static_cast<State::Running*>(request->data)->job->run(); };
  if (uv_queue_work(&s.loop, &running->request, work, State::on_work_done) != 0) return;
  s.shared.requests++;
  s.running.insert(running.release());
}

void UvLoop::State::on_work_done(uv_work_t* request, int status) {
  const std::unique_ptr<Running> running(static_cast<Running*>(request->data));
  State* state = running->state;
  state->shared.requests--;
  state->running.erase(running.get());
  if (status == 0 && !state->closing) running->job->finish();
}

void UvLoop::run() {
  State& s = *state_;
  s.thread = std::this_thread::get_id();
  while (!s.stop.exchange(false)) uv_run(&s.loop, UV_RUN_DEFAULT);
  s.thread = std::thread::id();
}

void UvLoop::stop() {
  State& s = *state_;
  s.stop = true;
  const std::lock_guard lock(s.mutex);
  if (s.wake) uv_async_send(s.wake.get());
}

Result<void> UvLoop::on_signal(int signal, std::move_only_function<void()> task) {
  auto watch = std::make_unique<SignalWatch>();
  int status = 0;
  watch->handle =
      make_uv_handle<uv_signal_t>([this](uv_signal_t* h) { return uv_signal_init(&state_->loop, h); }, &status);
  if (watch->handle) {
    watch->handle->data = watch.get();
    watch->task = std::move(task);
    status = uv_signal_start(
        watch->handle.get(),
        [](uv_signal_t* h, int) {
          if (h->data != nullptr) static_cast<SignalWatch*>(h->data)->task();
        },
        signal);
  }
  if (status != 0) {
    return fail(Code::internal, "watch signal " + std::to_string(signal) + ": " + errno_text(status));
  }
  state_->signals.push_back(std::move(watch));
  return {};
}

uv_loop_s* UvLoop::raw() { return &state_->loop; }

void UvLoop::timers_changed(int64_t next_ms) {
  State& s = *state_;
  if (s.closing || next_ms == s.armed_for) return;
  s.armed_for = next_ms;
  if (next_ms < 0) {
    uv_timer_stop(s.timer.get());
    return;
  }
  uv_update_time(&s.loop);  // or the wait would count from the start of this turn
  const int64_t wait = next_ms - now_ms();
  uv_timer_start(
      s.timer.get(),
      [](uv_timer_t* h) {
        auto* state = static_cast<State*>(h->data);
        if (state == nullptr) return;
        state->armed_for = -1;
        state->owner->run_timers(state->owner->now_ms());
      },
      wait > 0 ? static_cast<uint64_t>(wait) : 0, 0);
}

}  // namespace limpet
