// SPDX-License-Identifier: Apache-2.0
#pragma once
// The load under which a store is killed or loses power. Operation n is revision n, so the revision found afterwards
// says exactly which rows must be there.

#include <string>

#include "store_rig.h"

namespace limpet {

inline constexpr uint64_t kSlots = 400;  // operation n writes the row n % kSlots
inline constexpr uint64_t kLogKeep = 300;
inline constexpr TableId kSlotTable = TableId::agent_state;

inline std::string slot_key(uint64_t n) { return "slot " + std::to_string(n % kSlots); }

// From a few bytes to several pages.
inline std::string value_of(uint64_t n) {
  const size_t size = n % 37 == 0 ? 9000 : n % 11 * 60;
  return std::to_string(n) + ":" + std::string(size, static_cast<char>('a' + n % 26));
}

// Writes its row; every fifth also deletes the row half a round away.
inline ChangeSet operation(uint64_t n) {
  ChangeSet set;
  set.put(kSlotTable, as_bytes(slot_key(n)), as_bytes(value_of(n)));
  if (n % 5 == 0) set.remove(kSlotTable, as_bytes(slot_key(n + kSlots / 2)));
  return set;
}

// What row `slot` holds after the operations 1..revision.
inline std::string expected(uint64_t slot, uint64_t revision) {
  for (uint64_t n = revision; n > 0 && revision - n < kSlots; --n) {
    if (n % kSlots == slot) return value_of(n);
    if (n % 5 == 0 && (n + kSlots / 2) % kSlots == slot) return "?NotFound";
  }
  return "?NotFound";
}

inline void check_rows(Rig& rig, uint64_t revision) {
  for (uint64_t slot = 0; slot < kSlots; ++slot) {
    ASSERT_EQ(rig.get(kSlotTable, slot_key(slot)), expected(slot, revision))
        << "row " << slot << " at revision " << revision;
  }
}

inline void check_log(Rig& rig, uint64_t revision) {
  uint64_t next = revision > kLogKeep ? revision - kLogKeep + 1 : 1;
  auto in_order = [&next](uint64_t logged, const std::vector<Change>& changes) {
    EXPECT_EQ(logged, next++);
    EXPECT_FALSE(changes.empty());
    return true;
  };
  ASSERT_TRUE(rig.store->read().changes(next - 1, in_order).has_value());
  EXPECT_EQ(next, revision + 1);
}

}  // namespace limpet
