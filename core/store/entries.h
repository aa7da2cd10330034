// SPDX-License-Identifier: Apache-2.0
#pragma once
// Registration entries in the store: rows by number, found by entry id and by (SPIFFE ID, parent ID, selectors).
// Reading takes a snapshot; writing appends to a change set that the caller commits. Loop thread only.
//
// Row numbers only grow and serve as page tokens, as in SPIRE: a page is "the rows after this number".

#include <functional>
#include <optional>
#include <string_view>

#include "spiffe/entry.h"
#include "store/rows.h"

namespace limpet {

struct EntryRow {
  uint64_t row = 0;
  Entry entry;
};

// Equal for entries with the same SPIFFE ID, parent ID and selectors only: the beginning of the ID's path, then 128
// bits of the SHA-256 over all three.
Bytes entry_key(const Entry& entry);
// NOT_FOUND "entry not found"; DATA_LOSS.
Result<EntryRow> find_entry(const Snapshot& snapshot, std::string_view id);
Result<EntryRow> entry_at(const Snapshot& snapshot, uint64_t row);
// The entry with the same SPIFFE ID, parent ID and selectors; nullopt: there is none.
Result<std::optional<EntryRow>> find_similar_entry(const Snapshot& snapshot, const Entry& entry);
// The same for one whose entry_key() is known.
Result<std::optional<EntryRow>> find_similar_entry(const Snapshot& snapshot, BytesView key);
// Visits the entries after a row number (0: all) in row order until `visit` returns false.
Result<void> scan_entries(const Snapshot& snapshot, uint64_t after, const std::function<bool(EntryRow&&)>& visit);
// At most `limit` entries after that row.
Result<std::vector<EntryRow>> list_entries(const Snapshot& snapshot, uint64_t after, size_t limit);

// Hands out rows and writes them. One object per store.
class EntryTable {
 public:
  explicit EntryTable(const Snapshot& snapshot) : rows_(snapshot, TableId::entries, "entries") {}

  // A new entry id: a version 4 UUID whose first six bytes grow with `now` (Unix seconds) and each call, the rest is
  // random. Ids of one batch stand side by side in the table then: half as many pages to write as with ids that are
  // random throughout.
  std::string new_id(int64_t now);
  // The change set is ABORTED when the id or a similar entry exists by then. Returns the new row.
  uint64_t create(ChangeSet& changes, const Entry& entry) { return create(changes, entry, entry_key(entry)); }
  uint64_t create(ChangeSet& changes, const Entry& entry, BytesView key);  // `key`: its entry_key()
  // ABORTED when the row is no longer `old`, or the new SPIFFE ID, parent and selectors are taken. The id cannot
  // change; the caller has set the new revision_number.
  static void update(ChangeSet& changes, const EntryRow& old, const Entry& entry);
  // ABORTED when the row is no longer `old`.
  static void remove(ChangeSet& changes, const EntryRow& old);

 private:
  RowAllocator rows_;
  uint64_t last_id_ = 0;  // the first six bytes of the last new_id()
};

Bytes encode_entry(const Entry& entry);
Result<Entry> decode_entry(BytesView bytes);

}  // namespace limpet
