// SPDX-License-Identifier: Apache-2.0
#pragma once
// What only instance*.cc share: a timer, and a call of a service, that a plugin started. Owned by
// the instance, loop thread.

#include "plugin/instance.h"

namespace limpet {

struct Instance::HostTimer {
  explicit HostTimer(Loop& loop) : timer(loop) {}
  void fire();

  Timer timer;
  Instance* owner = nullptr;
  uint32_t id = 0;
  void (*fn)(void*) = nullptr;
  void* arg = nullptr;
};

// A call of a service that is answered later. Destroying it is stopping it.
struct Instance::HostCall {
  HostCall(Instance& instance, uint32_t number) : owner(instance), id(number) {}
  HostCall(const HostCall&) = delete;
  HostCall& operator=(const HostCall&) = delete;
  virtual ~HostCall() = default;

  Instance& owner;
  const uint32_t id;
};

template <class T>
struct Instance::CallOf final : HostCall {
  CallOf(Instance& instance, uint32_t number, CallDone<T> done) : HostCall(instance, number), tell(std::move(done)) {}

  Done<T> arm() { return replied.template then<&CallOf::on_reply>(this); }
  void on_reply(Result<T> reply) {
    const auto keep_instance = owner.self_.lock();
    const auto keep = owner.calls_.extract(id);  // the callback may start or stop others
    if (reply) return tell(nullptr, &*reply);
    const std::string& text = reply.error().message;
    const limpet_status status = {
        sizeof(limpet_status), static_cast<limpet_code>(reply.error().code), {text.data(), text.size()}, 0, 0};
    tell(&status, nullptr);
  }

  CallDone<T> tell;
  Pending<T> replied;
};

}  // namespace limpet
