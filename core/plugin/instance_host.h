// SPDX-License-Identifier: Apache-2.0
#pragma once
// What only instance.cc and instance_host.cc share: a timer that a plugin started. Owned by the instance, loop thread.

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

}  // namespace limpet
