// SPDX-License-Identifier: Apache-2.0
#include "store/rows.h"

#include <algorithm>
#include <charconv>

#include "store/codec.h"

namespace limpet {

namespace {
constexpr uint64_t kBlock = 1024;  // rows per write of the counter
}

RowAllocator::RowAllocator(const Snapshot& snapshot, TableId table, std::string_view name) : name_(name) {
  if (auto kept = snapshot.get(TableId::counters, as_bytes(name_)); kept) next_ = std::max(next_, decode_u64(*kept));
  // the change set that reserved a block may have failed while a later one was written
  if (Bytes last = snapshot.last_key(table); !last.empty()) next_ = std::max(next_, decode_u64(last) + 1);
  reserved_ = next_;
}

uint64_t RowAllocator::next(ChangeSet& changes) {
  if (next_ >= reserved_) {
    reserved_ = next_ + kBlock;
    changes.put(TableId::counters, as_bytes(name_), encode_u64(reserved_));
  }
  return next_++;
}

Result<uint64_t> parse_page_token(std::string_view token) {
  uint64_t row = 0;
  if (token.empty()) return row;
  auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), row);
  if (error != std::errc() || end != token.data() + token.size()) {
    return fail(Code::invalid_argument, "could not parse token \"" + std::string(token.substr(0, 64)) + "\"");
  }
  return row;
}

}  // namespace limpet
