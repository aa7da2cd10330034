// SPDX-License-Identifier: Apache-2.0
#pragma once
// Attested agents in the store: rows by number, found by SPIFFE ID. Reading takes a snapshot; writing appends to a
// change set that the caller commits. Loop thread only.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "spiffe/entry.h"
#include "store/rows.h"

namespace limpet {

struct AgentRecord {
  std::string id;  // SPIFFE ID
  std::string attestation_type;
  std::string serial;      // decimal serial number of the SVID in use; empty: banned
  int64_t not_after = 0;   // Unix seconds
  std::string new_serial;  // of a renewed SVID that was not used yet
  int64_t new_not_after = 0;
  SelectorSet selectors;
  bool can_reattest = false;
  std::string agent_version;
  bool operator==(const AgentRecord&) const = default;
  [[nodiscard]] bool banned() const { return serial.empty(); }
};

struct AgentRow {
  uint64_t row = 0;
  AgentRecord agent;
};

// NOT_FOUND "agent not found"; DATA_LOSS.
Result<AgentRow> find_agent(const Snapshot& snapshot, std::string_view id);
Result<AgentRow> agent_at(const Snapshot& snapshot, uint64_t row);
// Visits the agents after a row number (0: all) in row order until `visit` returns false.
Result<void> scan_agents(const Snapshot& snapshot, uint64_t after, const std::function<bool(AgentRow&&)>& visit);

// Hands out rows and writes them. One object per store.
class AgentTable {
 public:
  explicit AgentTable(const Snapshot& snapshot) : rows_(snapshot, TableId::agents, "agents") {}

  // ABORTED when the agent exists by then. Returns the new row.
  uint64_t create(ChangeSet& changes, const AgentRecord& agent);
  // ABORTED when the row is no longer `old`. The id cannot change.
  static void update(ChangeSet& changes, const AgentRow& old, const AgentRecord& agent);
  static void remove(ChangeSet& changes, const AgentRow& old);

 private:
  RowAllocator rows_;
};

Bytes encode_agent(const AgentRecord& agent);
Result<AgentRecord> decode_agent(BytesView bytes);

}  // namespace limpet
