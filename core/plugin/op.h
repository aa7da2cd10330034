// SPDX-License-Identifier: Apache-2.0
#pragma once
// One request in flight inside a plugin: what stands behind the ABI's opaque limpet_op. Owned by its Instance from
// start to the loop's processing of the answer, and a little longer so that a second `done` is recognised. The plugin
// holds a bare pointer. Made, delivered and destroyed on the loop thread (SyncOp: made on a worker); answered on any
// thread.

#include <limpet_plugin.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "loop/loop.h"

namespace limpet {
class Instance;
struct Session;

// A distinct address per result type: a plugin that answers with another call's `done` is caught.
template <class T>
const void* op_kind() {
  static constexpr char kHere = 0;
  return &kHere;
}
using PluginCall = std::move_only_function<void(limpet_instance*, limpet_op*)>;
}  // namespace limpet

struct limpet_op {
  enum class State { waiting, running, finished };

  limpet_op(const void* result_kind, limpet::PluginCall plugin_call)
      : kind(result_kind), call(std::move(plugin_call)) {}
  limpet_op(const limpet_op&) = delete;
  limpet_op& operator=(const limpet_op&) = delete;
  virtual ~limpet_op() = default;

  // [loop] Hands the waiter `failure`, or without one what the plugin answered. Only the first call has an effect.
  virtual void deliver(const limpet::Error* failure) = 0;
  // [any] The two ends of an answer. begin aborts the process when this op was answered before or has another result.
  void begin_answer(const void* result_kind);
  void end_answer();
  // [any] Something that comes before the answer; aborts the process as begin_answer() does.
  void check_running(const void* result_kind);
  [[nodiscard]] limpet::Error error_of(const limpet_status& status) const;
  void on_deadline();

  const void* kind;
  limpet::PluginCall call;
  std::atomic<State> state{State::waiting};
  limpet::Instance* owner = nullptr;
  limpet::Session* session = nullptr;
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  std::optional<limpet::Timer> timer;
};

namespace limpet {

template <class T>
struct AnswerOp : limpet_op {
  explicit AnswerOp(PluginCall plugin_call) : limpet_op(op_kind<T>(), std::move(plugin_call)) {}
  virtual void store(Result<T> result) = 0;  // [any], once
};

// The waiter is a Done on the loop.
template <class T>
struct LoopOp final : AnswerOp<T> {
  LoopOp(PluginCall plugin_call, Done<T> waiter) : AnswerOp<T>(std::move(plugin_call)), done(std::move(waiter)) {}
  void store(Result<T> answer) override { result = std::move(answer); }
  void deliver(const Error* failure) override {
    if (std::exchange(delivered, true)) return;
    Done<T> waiter = std::move(done);
    waiter(failure != nullptr ? Result<T>(std::unexpected(*failure)) : std::move(result));
  }
  Done<T> done;
  Result<T> result = std::unexpected(Error{Code::internal, "the plugin did not answer"});
  bool delivered = false;
};

// The waiter is a worker thread. The state has two owners: the op, and the worker, which may give up first.
template <class T>
struct SyncState {
  std::mutex mutex;
  std::condition_variable ready;
  std::optional<Result<T>> result;
  void set(Result<T> value) {
    const std::lock_guard lock(mutex);
    if (!result) result = std::move(value);
    ready.notify_all();
  }
};
template <class T>
struct SyncOp final : AnswerOp<T> {
  SyncOp(PluginCall plugin_call, std::shared_ptr<SyncState<T>> shared)
      : AnswerOp<T>(std::move(plugin_call)), shared_state(std::move(shared)) {}
  ~SyncOp() override { shared_state->set(std::unexpected(Error{Code::unavailable, "the plugin is being stopped"})); }
  void store(Result<T> answer) override { shared_state->set(std::move(answer)); }
  void deliver(const Error* failure) override {
    if (failure != nullptr) shared_state->set(std::unexpected(*failure));
  }
  std::shared_ptr<SyncState<T>> shared_state;
};

// What every `done` callback of a facade does: copy the answer (`convert`, only without an error) and wake the loop.
template <class T, class Convert>
void answer_op(limpet_op* op, const limpet_status* err, Convert convert) {
  op->begin_answer(op_kind<T>());
  auto* typed = static_cast<AnswerOp<T>*>(op);
  if (err != nullptr) {
    typed->store(std::unexpected(op->error_of(*err)));
  } else {
    typed->store(convert());
  }
  op->end_answer();
}

}  // namespace limpet
