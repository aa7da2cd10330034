// SPDX-License-Identifier: Apache-2.0
#pragma once
// What every fuzz target needs: the entry point libFuzzer calls, and a check that stays in every build. A target reads
// its input as a hostile peer's bytes and may do anything but crash, leak, hang or break what FUZZ_CHECK says.

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "base/bytes.h"

#define FUZZ_CHECK(condition)                                                           \
  if (!(condition)) {                                                                   \
    std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
    std::abort();                                                                       \
  }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
