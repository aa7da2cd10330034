// SPDX-License-Identifier: Apache-2.0
#include "store/change_log.h"

#include "store/codec.h"
#include "store/lmdb.h"

namespace limpet {

Bytes encode_changes(const std::vector<Change>& changes) {
  size_t size = 0;
  for (const Change& change : changes) size += 4 + change.key.size();
  Bytes out;
  out.reserve(size);
  for (const Change& change : changes) {
    out.push_back(static_cast<uint8_t>(change.table));
    out.push_back(change.deleted ? 1 : 0);
    out.push_back(static_cast<uint8_t>(change.key.size() >> 8));
    out.push_back(static_cast<uint8_t>(change.key.size()));
    append(out, change.key);
  }
  return out;
}

std::optional<std::vector<Change>> decode_changes(BytesView bytes) {
  std::vector<Change> changes;
  while (!bytes.empty()) {
    if (bytes.size() < 4 || bytes[1] > 1) return std::nullopt;
    size_t size = static_cast<size_t>(bytes[2]) << 8 | bytes[3];
    if (bytes.size() - 4 < size) return std::nullopt;
    changes.push_back({static_cast<TableId>(bytes[0]), to_bytes(bytes.subspan(4, size)), bytes[1] == 1});
    bytes = bytes.subspan(4 + size);
  }
  return changes;
}

void require_newest(ChangeSet& changes, uint64_t revision) {
  changes.require_absent(kLogTable, encode_u64(revision + 1));
}

}  // namespace limpet
