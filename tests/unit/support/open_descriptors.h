// SPDX-License-Identifier: Apache-2.0
#pragma once
// How many descriptors this process has open, for tests that nothing is left behind.

#include <cstdint>
#include <filesystem>
#include <iterator>

namespace limpet::test {

inline int64_t open_descriptors() {
  using Iterator = std::filesystem::directory_iterator;
  return std::distance(Iterator("/proc/self/fd"), Iterator());
}

}  // namespace limpet::test
