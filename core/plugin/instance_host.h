// SPDX-License-Identifier: Apache-2.0
#pragma once
// What only instance.cc and instance_host.cc share: a timer and a gRPC call that a plugin started. Owned by the
// instance, loop thread.

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

struct Instance::HostCall {
  void on_reply(Result<Bytes> reply);

  Instance* owner = nullptr;
  uint32_t id = 0;
  limpet_grpc_done done = nullptr;
  void* arg = nullptr;
  Pending<Bytes> replied;
};

}  // namespace limpet
