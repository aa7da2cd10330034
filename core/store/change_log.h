// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a commit's changes stand in the log: per change one byte of table, one byte of kind (0 put, 1 deleted), the key's
// length in two bytes, big-endian, and the key. Pure functions.

#include <optional>
#include <vector>

#include "store/store.h"

namespace limpet {

Bytes encode_changes(const std::vector<Change>& changes);
std::optional<std::vector<Change>> decode_changes(BytesView bytes);  // nullopt: malformed

// The set is only applied while `revision` is the newest: for what was judged by looking at a whole table. ABORTED.
void require_newest(ChangeSet& changes, uint64_t revision);

}  // namespace limpet
