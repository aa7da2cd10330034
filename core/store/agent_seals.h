// SPDX-License-Identifier: Apache-2.0
#pragma once
// The key that the rows of agent_svids are sealed with, itself sealed by a sealer; and keys that could not be opened,
// set aside together with the rows they belong to, until their sealer is back. All of it stands in agent_state, as
// blobs under "sealed-key" and "aside/...". Without a sealer there is no such blob: the key is in a file. Loop only.

#include <optional>
#include <string>
#include <vector>

#include "store/store.h"

namespace limpet {

struct SealedKey {
  std::string sealer;  // its name
  Bytes blob;
  bool operator==(const SealedKey&) const = default;
};

// nullopt when there is none. DATA_LOSS.
Result<std::optional<SealedKey>> read_sealed_key(const Snapshot& snapshot);
void put_sealed_key(ChangeSet& changes, const SealedKey& key);
void remove_sealed_key(ChangeSet& changes);

struct KeyAside {
  uint64_t number = 0;  // the higher, the newer
  SealedKey key;
};
inline constexpr size_t kKeysAside = 4;  // more: the oldest goes, with its rows

std::vector<KeyAside> read_keys_aside(const Snapshot& snapshot);  // newest first; an unreadable one is left out
// Moves every row of agent_svids aside, under the key; without any row the key is not kept either. `leaving` is the
// number of a key that is taken back with the same changes; 0: none. Returns the rows.
Result<size_t> set_aside(const Snapshot& snapshot, ChangeSet& changes, const SealedKey& key, uint64_t leaving);
// Moves back the rows whose entries are still there, and forgets that they were aside. Returns the rows.
Result<size_t> take_back(const Snapshot& snapshot, ChangeSet& changes, const KeyAside& aside);

}  // namespace limpet
