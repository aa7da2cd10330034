// SPDX-License-Identifier: Apache-2.0
// The life of an instance and the ways a call takes through it. What a plugin is given: instance_host.cc,
// instance_calls.cc.
#include "plugin/instance.h"

#include <algorithm>
#include <cstdlib>

#include "base/limits.h"
#include "plugin/instance_host.h"

namespace limpet {

using Clock_ = std::chrono::steady_clock;

Instance::Instance(const PluginContext& context, const limpet_component& component, std::string_view kind)
    : component_(component),
      name_(component.name),
      label_(std::string(kind) + "(" + component.name + ")"),
      trust_domain_(context.trust_domain),
      logger_(context.logger),
      timers_loop_(context.loop),
      services_(context.services),
      loop_(&context.loop) {
  host_ = {sizeof(limpet_host), LIMPET_ABI_MINOR, this, &host_service, &host_log, &host_post, &host_time_left};
}

Instance::~Instance() { close(); }

Result<std::shared_ptr<Instance>> Instance::create(const PluginContext& context, const limpet_component& component,
                                                   std::string_view kind) {
  std::shared_ptr<Instance> made(new Instance(context, component, kind));
  made->self_ = made;
  const limpet_code code = component.create(&made->host_, &made->raw_);
  if (code == LIMPET_OK && made->raw_ != nullptr) return made;
  made->raw_ = nullptr;
  return fail(code > 0 && code <= 16 ? static_cast<Code>(code) : Code::internal,
              made->label_ + ": the plugin could not create an instance");
}

void Instance::configure(const std::string& json, bool dry_run, Done<void> done) {
  run<void>(
      [this, json, dry_run](limpet_instance* self, limpet_op* op) {
        const limpet_config config = {sizeof(limpet_config),
                                      dry_run ? 1u : 0u,
                                      {trust_domain_.data(), trust_domain_.size()},
                                      {json.data(), json.size()}};
        component_.configure(self, op, &config, [](limpet_op* o, const limpet_status* err) {
          answer_op<void>(o, err, [] { return Result<void>(); });
        });
      },
      limits::kPluginConfigureMs, std::move(done));
}

// ---- starting ----

// Registers the op and decides where it waits. On failure the op stays with the caller.
Result<void> Instance::admit(std::unique_ptr<limpet_op>& op) {
  if (loop_ == nullptr || stopping_) return fail(Code::unavailable, label_ + ": the plugin is being stopped");
  if (jobs_.size() >= limits::kPluginQueue) {
    return fail(Code::resource_exhausted,
                label_ + ": " + std::to_string(jobs_.size()) + " calls are waiting for the plugin");
  }
  limpet_op* raw = op.get();
  raw->owner = this;
  live_.emplace(raw, std::move(op));
  if (blocking() && !thread_.joinable()) thread_ = std::thread([this] { thread_main(); });
  if (deferred()) {
    jobs_.push_back({raw});
  } else {
    raw->state = limpet_op::State::running;
    ++running_;
  }
  wake_.notify_one();
  return {};
}

void Instance::start(std::unique_ptr<limpet_op> op, int64_t ms, Session* session) {
  limpet_op* raw = op.get();
  raw->session = session;
  if (ms != kForever) raw->deadline = Clock_::now() + std::chrono::milliseconds(ms);
  Result<void> admitted;
  {
    const std::lock_guard lock(mutex_);
    admitted = admit(op);
  }
  if (!admitted) return fail_later(std::move(op), admitted.error());
  if (session != nullptr) ++session->ops;
  if (ms != kForever) arm(*raw, ms);
  if (!deferred()) return call_now(*raw);
  if (!blocking()) pump();
}

static int64_t ms_left(const limpet_op& op) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(op.deadline - Clock_::now()).count();
  return std::max<int64_t>(left, 1);
}

void Instance::start_from_worker(std::unique_ptr<limpet_op> op, int64_t ms) {
  limpet_op* raw = op.get();
  raw->deadline = Clock_::now() + std::chrono::milliseconds(ms);
  std::unique_lock lock(mutex_);
  if (blocking()) {
    // Straight to the plugin's thread: the loop may be busy, or itself waiting for nothing else to finish.
    if (auto admitted = admit(op); !admitted) {
      lock.unlock();
      op->deliver(&admitted.error());
      return;
    }
    // Posted before the thread can end it (mutex_): the answer reaches the loop after this.
    loop_->post([weak = self_, raw] {
      if (const auto self = weak.lock(); self != nullptr && self->open_) self->arm(*raw, ms_left(*raw));
    });
    return;
  }
  if (loop_ == nullptr) return;  // the op's end tells the waiter
  loop_->post([weak = self_, raw, held = std::move(op)]() mutable {
    const auto self = weak.lock();
    if (self == nullptr) return;
    Result<void> admitted;
    {
      const std::lock_guard inner(self->mutex_);
      admitted = self->admit(held);
    }
    if (!admitted) return held->deliver(&admitted.error());
    self->arm(*raw, ms_left(*raw));
    self->deferred() ? self->pump() : self->call_now(*raw);
  });
}

// A worker stops waiting by itself; for its op the timer is for the plugin, which is asked to end the call.
void Instance::arm(limpet_op& op, int64_t ms) {
  op.timer.emplace(timers_loop_);
  op.timer->start<&limpet_op::on_deadline>(ms, &op);
}

void Instance::fail_later(std::unique_ptr<limpet_op> op, Error error) {
  timers_loop_.post([held = std::move(op), why = std::move(error)] { held->deliver(&why); });
}

void Instance::call_now(limpet_op& op) {
  PluginCall call = std::move(op.call);  // the op may be gone when the call returns
  const auto before = Clock_::now();
  call(raw_, &op);
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock_::now() - before).count();
  if (took > limits::kPluginBudgetMs) {
    logger_.warn("plugin held the event loop", {{"plugin", label_}, {"milliseconds", std::to_string(took)}});
  }
}

void Instance::pump() {
  while (!serial_busy_) {
    limpet_op* next = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (jobs_.empty()) return;
      next = jobs_.front().op;
      jobs_.pop_front();
      next->state = limpet_op::State::running;
      ++running_;
    }
    serial_busy_ = true;
    call_now(*next);
  }
}

void Instance::thread_main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    thread_busy_ = true;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    PluginCall call;
    if (job.op != nullptr) {
      job.op->state = limpet_op::State::running;
      ++running_;
      call = std::move(job.op->call);
    }
    lock.unlock();
    if (job.op != nullptr) {
      call(raw_, job.op);
      call = nullptr;
    } else if (job.session->raw != nullptr) {
      job.session->close(job.session->raw);
    }
    lock.lock();
    thread_busy_ = false;
    idle_.notify_all();
  }
}

// ---- ending ----

void Instance::op_answered(limpet_op* op) {
  const std::lock_guard lock(mutex_);
  --running_;
  if (loop_ != nullptr) {
    loop_->post([weak = self_, op] {
      if (const auto self = weak.lock()) self->complete(op);
    });
  }
  idle_.notify_all();
}

std::unique_ptr<limpet_op> Instance::take_waiting(limpet_op& op) {
  const std::lock_guard lock(mutex_);
  const auto place = std::ranges::find(jobs_, &op, &Job::op);
  if (place == jobs_.end()) return nullptr;
  jobs_.erase(place);
  std::unique_ptr<limpet_op> waiting = std::move(live_[&op]);
  live_.erase(&op);
  return waiting;
}

void Instance::cancel(limpet_op& op) {
  const auto keep = self_.lock();
  if (const auto never_started = take_waiting(op)) return finish_session(never_started->session);
  if (op.state == limpet_op::State::running && component_.cancel != nullptr) component_.cancel(raw_, &op);
}

void Instance::post(std::move_only_function<void()> task) {
  const std::lock_guard lock(mutex_);
  if (loop_ == nullptr) return;
  loop_->post([weak = self_, job = std::move(task)]() mutable {
    const auto alive = weak.lock();
    if (alive != nullptr && alive->open_) job();
  });
}

void Instance::op_late(limpet_op& op) {
  std::unique_ptr<limpet_op> never_started = take_waiting(op);
  const auto keep = self_.lock();
  const Error late{Code::deadline_exceeded,
                   label_ + (never_started ? ": the plugin was busy until the deadline"
                                           : ": the plugin did not answer before the deadline")};
  if (never_started) {
    finish_session(never_started->session);
    never_started->timer.reset();
    return never_started->deliver(&late);
  }
  logger_.warn("plugin is late; it keeps the operation until it answers", {{"plugin", label_}});
  op.deliver(&late);  // first: a plugin may answer while it is cancelled
  if (open_ && op.state == limpet_op::State::running && component_.cancel != nullptr) component_.cancel(raw_, &op);
}

void Instance::complete(limpet_op* op) {
  if (!open_) return;  // abandoned: close() told whoever waited, and the sessions are the thread's
  limpet_op* answered = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto place = live_.find(op);
    if (place == live_.end()) return;
    answered = place->second.get();
    spent_.push_back(std::move(place->second));
    live_.erase(place);
  }
  answered->timer.reset();
  finish_session(answered->session);
  // The oldest spent ops go now; this one must outlive its own delivery, which may close us.
  std::deque<std::unique_ptr<limpet_op>> old;
  while (spent_.size() > limits::kPluginSpentOps) {
    old.push_back(std::move(spent_.front()));
    spent_.pop_front();
  }
  if (serial() && !blocking()) {
    serial_busy_ = false;
    pump();
  }
  answered->deliver(nullptr);
}

Session* Instance::add_session(void (*close_session)(limpet_session*)) {
  sessions_.push_back(std::make_unique<Session>());
  sessions_.back()->close = close_session;
  return sessions_.back().get();
}

void Instance::drop_session(Session* session) {
  const bool known = std::ranges::any_of(sessions_, [&](const auto& s) { return s.get() == session; });
  if (!known) return;  // closed with the instance
  session->dropped = true;
  ++session->ops;  // so that finish_session sees the last user leave
  finish_session(session);
}

void Instance::finish_session(Session* session) {
  if (session == nullptr || --session->ops > 0 || !session->dropped) return;
  const auto place = std::ranges::find_if(sessions_, [&](const auto& s) { return s.get() == session; });
  std::unique_ptr<Session> mine = std::move(*place);
  sessions_.erase(place);
  if (mine->raw == nullptr) return;
  if (!blocking()) return mine->close(mine->raw);
  const std::lock_guard lock(mutex_);
  jobs_.push_back({nullptr, std::move(mine)});
  wake_.notify_one();
}

void Instance::close() {
  const auto keep = self_.lock();
  open_ = false;
  std::vector<limpet_op*> running;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(stopping_, true)) return;
    std::erase_if(jobs_, [](const Job& job) { return job.op != nullptr; });
    for (auto& [op, owned] : live_) {
      owned->timer.reset();
      if (op->state == limpet_op::State::running) running.push_back(op);
    }
    if (thread_.joinable()) {  // its sessions are closed there too: that may block
      for (auto& session : sessions_) jobs_.push_back({nullptr, std::move(session)});
      sessions_.clear();
    }
  }
  wake_.notify_all();
  if (raw_ != nullptr && component_.cancel != nullptr) {
    for (limpet_op* op : running) component_.cancel(raw_, op);
  }
  bool idle = false;
  std::unordered_map<limpet_op*, std::unique_ptr<limpet_op>> ended;
  std::vector<limpet_op*> waiters;
  {
    std::unique_lock lock(mutex_);
    idle = idle_.wait_for(lock, std::chrono::milliseconds(limits::kPluginStopMs),
                          [this] { return running_ == 0 && !thread_busy_ && jobs_.empty(); });
    loop_ = nullptr;
    for (const auto& [op, owned] : live_) waiters.push_back(op);
    if (idle) ended = std::move(live_);
  }
  timers_.clear();
  watches_.clear();
  calls_.clear();
  idle ? release() : abandon();
  const Error stopped{Code::unavailable, label_ + ": the plugin is being stopped"};
  for (limpet_op* op : waiters) op->deliver(&stopped);
}

// The plugin let go: give everything back in order.
void Instance::release() {
  if (thread_.joinable()) thread_.join();
  for (auto& session : sessions_) {
    if (session->raw != nullptr) session->close(session->raw);
  }
  sessions_.clear();
  if (raw_ != nullptr) component_.destroy(raw_);
  raw_ = nullptr;
}

// It did not: it may still write through its pointers, so nothing of ours is freed.
void Instance::abandon() {
  logger_.error("plugin did not end its calls when it was stopped; it is abandoned", {{"plugin", label_}});
  if (thread_.joinable()) thread_.detach();
  abandoned_ = self_.lock();
  const std::lock_guard lock(mutex_);
  mute_ = true;
}

void Instance::misuse(std::string_view what) {
  {
    const std::lock_guard lock(mutex_);
    if (mute_) std::abort();
  }
  logger_.log(LogLevel::panic, "plugin broke the contract of limpet_plugin.h",
              {{"plugin", label_}, {"what", std::string(what)}});
  std::abort();
}

}  // namespace limpet
