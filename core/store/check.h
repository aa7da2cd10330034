// SPDX-License-Identifier: Apache-2.0
#pragma once
// Is a data file sound? LMDB trusts what it reads and a damaged file kills the process that reads it, so the pages are
// checked first, and by a throw-away child. Blocking; reads only.

#include <string>

#include "base/bytes.h"

namespace limpet {

struct Verdict {
  enum class Kind : uint8_t { sound, damaged, newer, unreadable };
  Kind kind = Kind::sound;
  uint64_t schema = 0;  // for newer
  std::string reason;   // for damaged and unreadable
};

// In a forked child: page structure and checksums (store/page_walk.h), then every table through LMDB itself. Without
// `in_child`, or when no child can be had, the page structure and checksums alone, here. Costs one pass over the used
// pages.
Verdict check_store(const std::string& path, bool in_child);

}  // namespace limpet
