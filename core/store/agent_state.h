// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an agent keeps of itself across restarts, in the table agent_state: its SVID, its trust bundle, the last time it
// believed, and named blobs. Entries and workload SVIDs have tables of their own (agent_entries, agent_svids). Loop
// only.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spiffe/bundle.h"
#include "store/store.h"

namespace limpet {

struct AgentSvid {
  std::vector<Bytes> chain;  // DER, leaf first
  std::string key_id;        // the key manager's name for the private key
  bool reattestable = false;
  bool operator==(const AgentSvid&) const = default;
};

// nullopt when none was kept. DATA_LOSS.
Result<std::optional<AgentSvid>> read_agent_svid(const Snapshot& snapshot);
void put_agent_svid(ChangeSet& changes, const AgentSvid& svid);
void remove_agent_svid(ChangeSet& changes);

Result<std::optional<Bundle>> read_agent_bundle(const Snapshot& snapshot);
void put_agent_bundle(ChangeSet& changes, const Bundle& bundle);

// The last known good time in Unix seconds; 0: none kept.
Result<int64_t> read_agent_time(const Snapshot& snapshot);
void put_agent_time(ChangeSet& changes, int64_t unix_seconds);

// Any other blob, under a name of 1 to 400 bytes.
Result<std::optional<Bytes>> read_agent_blob(const Snapshot& snapshot, std::string_view name);
void put_agent_blob(ChangeSet& changes, std::string_view name, BytesView blob);
void remove_agent_blob(ChangeSet& changes, std::string_view name);

}  // namespace limpet
