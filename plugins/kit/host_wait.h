// SPDX-License-Identifier: Apache-2.0
#pragma once
// Host services for a BLOCKING plugin: a call is begun on the loop, and the plugin's thread waits for its answer, as
// long as its own op has time. Owned by the plugin's instance and destroyed with it.

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
  // [the plugin's thread] `start` is called on the loop with the argument for the service's done, which must hand it to
  // finish<T>(); it returns the service's answer, 0: not begun. DEADLINE_EXCEEDED, CANCELLED.
  template <class T>
  Result<T> run(const limpet_op* op, std::function<uint32_t(void* arg)> start) {
    auto call = std::make_unique<CallOf<T>>();
    auto* waiting = call.get();
    call->owner = this;
    call->start = std::move(start);
    TRY(wait(op, std::move(call)));
    return std::move(*waiting->result);  // in last_, until the next call
  }
  // [loop]
  template <class T>
  static void finish(void* arg, Result<T> result) {
    auto* call = static_cast<CallOf<T>*>(static_cast<Call*>(arg));
    call->result = std::move(result);
    call->owner->answered(call);
  }
  // [loop] From the component's cancel.
  void cancel(const limpet_op* op);

 private:
  struct Call {
    virtual ~Call() = default;
    virtual void refuse(Error why) = 0;
    HostWait* owner = nullptr;
    std::function<uint32_t(void*)> start;
    bool done = false;
    bool abandoned = false;  // nobody waits any more; the loop forgets it
  };
  template <class T>
  struct CallOf final : Call {
    void refuse(Error why) override { result = std::unexpected(std::move(why)); }
    std::optional<Result<T>> result;
  };
  Result<void> wait(const limpet_op* op, std::unique_ptr<Call> call);
  void answered(Call* call);
  static void begin(void* arg);

  const limpet_host* host_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable ready_;
  std::list<std::unique_ptr<Call>> calls_;
  std::unique_ptr<Call> last_;  // answered, its result is being read
  const limpet_op* running_ = nullptr;
  bool cancelled_ = false;
};

// The error that a service's done was given.
Error error_of(const limpet_status& status);

}  // namespace limpet::kit
