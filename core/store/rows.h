// SPDX-License-Identifier: Apache-2.0
#pragma once
// Row numbers for the tables that are listed in pages. Loop thread only: all change sets come from there.

#include <string>
#include <string_view>

#include "store/store.h"

namespace limpet {

// Hands out growing row numbers from 1. A block of them is reserved in the counters table with the first row taken from
// it, so that a row number is not used again after its row was deleted and the process restarted.
class RowAllocator {
 public:
  RowAllocator(const Snapshot& snapshot, TableId table, std::string_view name);
  uint64_t next(ChangeSet& changes);

 private:
  std::string name_;
  uint64_t next_ = 1;
  uint64_t reserved_ = 1;  // numbers below this one may be used without writing the counter
};

// "" is 0: from the start. INVALID_ARGUMENT `could not parse token "x"`.
Result<uint64_t> parse_page_token(std::string_view token);

}  // namespace limpet
