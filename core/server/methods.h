// SPDX-License-Identifier: Apache-2.0
#pragma once
// The caller table: who may call which method (wire notes 2.3), for every method of every service, those that answer
// UNIMPLEMENTED included. Constant data, any thread.

#include <cstdint>
#include <string_view>

namespace limpet::server {

enum CallerClass : uint8_t {
  kAny = 1u << 0,
  kLocal = 1u << 1,
  kAdmin = 1u << 2,
  kAgent = 1u << 3,
  kDownstream = 1u << 4,
};

// The classes that may call "/pkg.Service/Method"; 0: no such method.
uint8_t allowed_callers(std::string_view method);

}  // namespace limpet::server
