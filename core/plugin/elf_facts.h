// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a shared object's file says of itself, read without loading it. Every offset is checked: the file is not
// trusted. Any thread.

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limpet {

inline constexpr size_t kMostExported = 64;  // a file may hold millions, and a plugin has one

struct ElfFacts {
  std::vector<std::string> exported;  // defined, visible symbols; the first kMostExported of them
  std::string run_path;               // DT_RPATH or DT_RUNPATH
  bool text_relocations = false;
  bool bind_now = false;
  bool relro = false;
  bool executable_stack = false;
};

// INVALID_ARGUMENT: not a shared object for this machine, or damaged.
Result<ElfFacts> read_elf(std::string_view file);

}  // namespace limpet
