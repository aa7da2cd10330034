// SPDX-License-Identifier: Apache-2.0
#pragma once
// Host services for a BLOCKING plugin: a call is begun on the loop, and the plugin's thread waits for its answer, as
// long as its own op has time and is wanted. One at a time, as such a plugin has one op at a time; a late answer to an
// earlier call is nobody's. Owned by the plugin's instance and destroyed with it.

#include <limpet_plugin.h>

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>

#include "base/result.h"

namespace limpet::kit {

class HostWait {
 public:
  explicit HostWait(const limpet_host* host) : host_(host) {}
  HostWait(const HostWait&) = delete;
  HostWait& operator=(const HostWait&) = delete;

  [[nodiscard]] const limpet_host* host() const { return host_; }
  // [the plugin's thread] Every op begins with this; what follows belongs to it.
  void begin(const limpet_op* op);
  // [the plugin's thread] The op has time left and was not cancelled.
  [[nodiscard]] bool wanted();
  // [the plugin's thread] `start` is called on the loop with the argument for the service's done, which must hand it to
  // finish<T>(); it returns the service's answer, 0: not begun. DEADLINE_EXCEEDED, CANCELLED.
  template <class T>
  Result<T> run(std::function<uint32_t(void* arg)> start) {
    return run_call<T>(std::move(start), false);
  }
  // The same for what must be done also when the op has no time left, or was cancelled: begun in any case, and waited
  // for a second.
  template <class T>
  Result<T> run_anyway(std::function<uint32_t(void* arg)> start) {
    return run_call<T>(std::move(start), true);
  }
  // [loop]
  template <class T>
  static void finish(void* arg, Result<T> result) {
    auto* call = static_cast<CallOf<T>*>(static_cast<Call*>(arg));
    call->result = std::move(result);
    call->owner->answered(call);
  }
  // [loop] From the component's cancel. Holds also when the op has not come to its call yet.
  void cancel(const limpet_op* op);

 private:
  struct Call {
    virtual ~Call() = default;
    virtual void refuse(Error why) = 0;
    HostWait* owner = nullptr;
    std::function<uint32_t(void*)> start;
    bool done = false;
    bool anyway = false;     // begun also when nobody waits any more
    bool abandoned = false;  // nobody waits any more; the loop forgets it
  };
  template <class T>
  struct CallOf final : Call {
    void refuse(Error why) override { result = std::unexpected(std::move(why)); }
    std::optional<Result<T>> result;
  };
  template <class T>
  Result<T> run_call(std::function<uint32_t(void* arg)> start, bool anyway) {
    auto call = std::make_unique<CallOf<T>>();
    auto* waiting = call.get();
    call->owner = this;
    call->start = std::move(start);
    call->anyway = anyway;
    TRY(wait(std::move(call)));
    return std::move(*waiting->result);  // in last_, until the next call
  }
  Result<void> wait(std::unique_ptr<Call> call);
  void answered(Call* call);
  static void start_call(void* arg);
  [[nodiscard]] bool cancelled() const { return cancelled_ != nullptr && cancelled_ == op_; }  // with mutex_

  const limpet_host* host_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable ready_;
  std::list<std::unique_ptr<Call>> calls_;
  std::unique_ptr<Call> last_;  // answered, its result is being read
  const limpet_op* op_ = nullptr;
  const limpet_op* cancelled_ = nullptr;
};

// The error that a service's done was given.
Error error_of(const limpet_status& status);

}  // namespace limpet::kit
