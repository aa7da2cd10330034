// SPDX-License-Identifier: Apache-2.0
// The child's loop, and the way of an operation through it. What a plugin is given: services.cc. The tables: calls.cc.
#include "plugin_host.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace limpet::shim {
namespace {
constexpr size_t kSpentOps = 64;
}

int64_t monotonic_ms() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

PluginHost::PluginHost(Link& link, uint32_t services)
    : link_(link), services_(services), wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  host_ = {sizeof(limpet_host), LIMPET_ABI_MINOR, this, &service, &log, &post, &time_left};
}

PluginHost::~PluginHost() { ::close(wake_fd_); }

limpet_code PluginHost::create(const limpet_component& component) {
  component_ = &component;
  const limpet_code code = component.create(&host_, &self_);
  if (code == LIMPET_OK && self_ == nullptr) return LIMPET_INTERNAL;
  return code;
}

bool PluginHost::run() {
  while (!hung_up_ && !(stopping_ && idle())) {
    turn();
    wait();
  }
  if (hung_up_) return false;
  {
    const std::lock_guard lock(mutex_);
    quit_ = true;
  }
  job_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (auto& [number, session] : sessions_) {
    if (session.raw != nullptr) close_raw(number);
  }
  component_->destroy(self_);
  return true;
}

bool PluginHost::idle() {
  const std::lock_guard lock(mutex_);
  return live_.empty() && jobs_.empty() && posted_.empty();
}

// Everything that is due: posted functions, sessions to close, timers.
void PluginHost::turn() {
  std::vector<std::pair<void (*)(void*), void*>> posted;
  std::vector<uint32_t> closing;
  bool next = false;
  {
    const std::lock_guard lock(mutex_);
    posted.swap(posted_);
    closing.swap(to_close_);
    next = std::exchange(serial_done_, false);
  }
  for (const auto& [fn, arg] : posted) fn(arg);
  for (const uint32_t number : closing) close_raw(number);
  if (next) {
    serial_busy_ = false;
    pump();
  }
  const int64_t now = monotonic_ms();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const TimerEntry due = timers_.begin()->second;
    timers_.erase(timers_.begin());
    due.fn(due.arg);
  }
}

void PluginHost::wait() {
  int timeout = -1;
  if (!timers_.empty())
    timeout = static_cast<int>(std::clamp<int64_t>(timers_.begin()->first - monotonic_ms(), 0, 3'600'000));
  {
    const std::lock_guard lock(mutex_);
    if (!posted_.empty() || !to_close_.empty() || serial_done_ || (stopping_ && live_.empty())) timeout = 0;
  }
  std::vector<pollfd> ready = {{link_.fd(), POLLIN, 0}, {wake_fd_, POLLIN, 0}};
  std::vector<uint64_t> serials = {0, 0};
  for (const Watch& w : watches_) {
    const int wanted =
        ((w.events & LIMPET_POLL_READ) != 0 ? POLLIN : 0) | ((w.events & LIMPET_POLL_WRITE) != 0 ? POLLOUT : 0);
    ready.push_back({w.events == 0 ? -1 : w.duplicate, static_cast<short>(wanted), 0});
    serials.push_back(w.serial);
  }
  if (::poll(ready.data(), ready.size(), timeout) <= 0) return;
  if (ready[1].revents != 0) {
    uint64_t count = 0;
    (void)!::read(wake_fd_, &count, sizeof count);
  }
  for (size_t i = 2; i < ready.size(); ++i) {
    if (ready[i].revents == 0) continue;
    const auto place = std::ranges::find(watches_, serials[i], &Watch::serial);
    if (place == watches_.end()) continue;  // an earlier one ended it
    // as libuv has it: an error, and an end without anything to read, show as all that was asked for
    const bool error = (ready[i].revents & (POLLERR | POLLNVAL)) != 0;
    const uint32_t events = error || ready[i].revents == POLLHUP
                                ? place->events
                                : ((ready[i].revents & POLLIN) != 0 ? LIMPET_POLL_READ : 0u) |
                                      ((ready[i].revents & POLLOUT) != 0 ? LIMPET_POLL_WRITE : 0u);
    const Watch told = *place;
    if (error) place->events = 0;
    told.fn(told.arg, told.fd, events);
  }
  if (ready[0].revents != 0) hung_up_ = !frames();
}

bool PluginHost::frames() {
  if (!link_.receive(false)) return false;
  while (const auto frame = link_.next()) on_frame(*frame);
  return true;
}

void PluginHost::on_frame(const Frame& frame) {
  if (is_call(frame.method)) return on_call(frame);
  switch (frame.method) {
    case Method::cancel:
      return on_cancel(frame.number);
    case Method::session_close:
      return on_session_close(frame.number);
    case Method::ping:
      return link_.send(FrameWriter(Method::pong, 0));
    case Method::identity:
      return on_identity(frame);
    case Method::service_done:
      return on_service_done(frame);
    case Method::stop:
      return on_stop();
    default:
      return;  // of a later daemon; the wire version says what it may send
  }
}

// ---- operations ----

void PluginHost::on_call(const Frame& frame) {
  FieldReader in(frame.payload);
  const int64_t left = std::max<int64_t>(in.i64(), 0), now = monotonic_ms();
  auto made = std::make_unique<limpet_op>();
  limpet_op* op = made.get();
  op->host = this;
  op->number = frame.number;
  op->method = frame.method;
  if (left < INT64_MAX - now) op->deadline_ms = now + left;
  op->payload = to_bytes(frame.payload.subspan(std::min<size_t>(8, frame.payload.size())));
  if (frame.method == Method::attest) {
    FieldReader fields(op->payload);
    (void)fields.u32();
    if (fields.u32() != 0) op->fd = link_.take_fd();
  }
  if (frame.method == Method::payload || frame.method == Method::answer || frame.method == Method::step)
    op->session = FieldReader(op->payload).u32();
  {
    const std::lock_guard lock(mutex_);
    live_[frame.number] = std::move(made);
    if (op->session != 0) ++sessions_[op->session].ops;
    if (blocking() || serial()) {
      jobs_.push_back({op, 0});
    } else {
      op->state = limpet_op::State::running;
    }
    if (blocking() && !thread_.joinable()) thread_ = std::thread([this] { thread_main(); });
  }
  if (blocking()) return job_.notify_one();
  serial() ? pump() : call(op);
}

void PluginHost::pump() {
  while (!serial_busy_) {
    limpet_op* op = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (jobs_.empty()) return;
      op = jobs_.front().op;
      jobs_.pop_front();
      op->state = limpet_op::State::running;
    }
    serial_busy_ = true;
    call(op);
    const std::lock_guard lock(mutex_);
    if (std::exchange(serial_done_, false)) serial_busy_ = false;
  }
}

void PluginHost::thread_main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    job_.wait(lock, [this] { return quit_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const Job job = jobs_.front();
    jobs_.pop_front();
    if (job.op != nullptr) job.op->state = limpet_op::State::running;
    lock.unlock();
    job.op != nullptr ? call(job.op) : close_raw(job.session);
    lock.lock();
    if (stopping_) wake();
  }
}

void PluginHost::on_cancel(uint32_t number) {
  limpet_op* op = nullptr;
  bool waiting = false;
  {
    const std::lock_guard lock(mutex_);
    const auto place = live_.find(number);
    if (place == live_.end()) return;
    op = place->second.get();
    waiting = std::erase_if(jobs_, [op](const Job& job) { return job.op == op; }) > 0;
    if (waiting) op->state = limpet_op::State::finished;
  }
  if (!waiting) {
    if (component_->cancel != nullptr) component_->cancel(self_, op);
    return;
  }
  FrameWriter frame(Method::done, number);
  put_status(frame, {sizeof(limpet_status), LIMPET_CANCELLED, lend_text("cancelled"), 0, 0});
  link_.send(std::move(frame));
  retire(op, false);
}

void PluginHost::on_stop() {
  std::vector<uint32_t> numbers;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& [number, op] : live_) numbers.push_back(number);
  }
  for (const uint32_t number : numbers) on_cancel(number);
}

void PluginHost::check_answer(limpet_op* op, bool fits) {
  if (!fits) misuse("answered an operation with another call's done");
  if (op->state.exchange(limpet_op::State::finished) != limpet_op::State::running)
    misuse("called done twice for one operation");
}

void PluginHost::finish_frame(limpet_op* op, FrameWriter&& frame) {
  if (frame.good()) return link_.send(std::move(frame));
  FrameWriter error(Method::done, op->number);
  put_status(error,
             frame.too_large()
                 ? limpet_status{sizeof(limpet_status), LIMPET_RESOURCE_EXHAUSTED,
                                 lend_text("the answer is larger than a plugin's process may send at once"), 0, 0}
                 : limpet_status{sizeof(limpet_status), LIMPET_INTERNAL,
                                 lend_text("the plugin's answer is not usable: a short struct, or no address"), 0, 0});
  link_.send(std::move(error));
}

void PluginHost::update(FrameWriter&& frame) {
  if (frame.good()) return link_.send(std::move(frame));
  log(&host_, LIMPET_LOG_ERROR, lend_text("a bundle of the plugin is not usable, or too large, and was dropped"),
      nullptr, 0);
}

void PluginHost::answer(limpet_op* op, FrameWriter&& frame) {
  finish_frame(op, std::move(frame));
  retire(op, true);
}

void PluginHost::retire(limpet_op* op, bool ran) {
  std::unique_ptr<limpet_op> oldest;
  bool tell = false;
  {
    const std::lock_guard lock(mutex_);
    const auto place = live_.find(op->number);
    if (op->fd >= 0) ::close(std::exchange(op->fd, -1));
    if (op->session != 0) finish_session(op->session);
    if (ran && serial() && !blocking()) serial_done_ = true;  // a call that only waited frees nobody's place
    spent_.push_back(std::move(place->second));
    live_.erase(place);
    if (spent_.size() > kSpentOps) {
      oldest = std::move(spent_.front());
      spent_.pop_front();
    }
    tell = stopping_ || !to_close_.empty() || serial_done_;
  }
  if (tell) wake();
}

// ---- sessions ----

void PluginHost::on_session_close(uint32_t number) {
  const std::lock_guard lock(mutex_);
  const auto place = sessions_.find(number);
  if (place == sessions_.end()) return;
  place->second.closing = true;
  ++place->second.ops;
  finish_session(number);
}

// Closed later, never under the call that ended it.
void PluginHost::finish_session(uint32_t number) {
  ChildSession& session = sessions_[number];
  if (--session.ops > 0 || !session.closing) return;
  if (!blocking()) return to_close_.push_back(number);
  jobs_.push_back({nullptr, number});
  job_.notify_one();
}

void PluginHost::close_raw(uint32_t number) {
  limpet_session* raw = nullptr;
  {
    const std::lock_guard lock(mutex_);
    raw = std::exchange(sessions_[number].raw, nullptr);
    if (!quit_) sessions_.erase(number);
  }
  if (raw == nullptr) return;
  if (std::string_view(component_->interface_id) == LIMPET_NODE_ATTESTOR_AGENT)
    return static_cast<const limpet_node_attestor_agent*>(component_->vtable)->close(raw);
  static_cast<const limpet_node_attestor_server*>(component_->vtable)->close(raw);
}

void PluginHost::wake() {
  const uint64_t one = 1;
  (void)!::write(wake_fd_, &one, sizeof one);
}

void PluginHost::misuse(const char* what) {
  const limpet_field field = {lend_text("what"), lend_text(what)};
  log(&host_, LIMPET_LOG_ERROR, lend_text("plugin broke the contract of limpet_plugin.h"), &field, 1);
  std::abort();
}

}  // namespace limpet::shim
