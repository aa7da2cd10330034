// SPDX-License-Identifier: Apache-2.0
#pragma once
// What came from the wire may be outside the enum, and reading it as one is undefined: read it as the number it is.

#include <cstdint>
#include <cstring>

namespace limpet::wire {

template <class Enum>
int32_t enum_number(const Enum& value) {
  int32_t number = 0;
  static_assert(sizeof value == sizeof number);
  std::memcpy(&number, &value, sizeof number);
  return number;
}

}  // namespace limpet::wire
