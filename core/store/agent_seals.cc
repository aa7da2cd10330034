// SPDX-License-Identifier: Apache-2.0
#include "store/agent_seals.h"

#include "store/agent_state.h"
#include "store/codec.h"

namespace limpet {

namespace {

constexpr std::string_view kKey = "sealed-key";
constexpr std::string_view kRowPrefix = "blob/aside/";  // as agent_state names its blobs
constexpr size_t kDigits = 8;                           // of a key's number

// "aside/00000007" is the key, "aside/00000007/<entry id>" a row.
std::string aside_name(uint64_t number) {
  const std::string digits = std::to_string(number);
  return "aside/" + std::string(kDigits - std::min(kDigits, digits.size()), '0') + digits;
}

Result<SealedKey> decode(BytesView bytes) {
  SealedKey key;
  ProtoReader in(bytes);
  while (in.next()) {
    if (in.field() == 1) key.sealer = in.text();
    if (in.field() == 2) key.blob = to_bytes(in.bytes());
  }
  if (!in.ok() || key.sealer.empty() || key.blob.empty()) return malformed_row("sealed key");
  return key;
}

Bytes encode(const SealedKey& key) {
  ProtoWriter out;
  out.text(1, key.sealer);
  out.bytes(2, key.blob);
  return out.take();
}

// Calls visit(rest of the name, value) for everything aside, in order: after the prefix come a number, and of a row
// its entry's id.
Result<void> scan_aside(const Snapshot& snapshot, const std::function<void(std::string_view, BytesView)>& visit) {
  return snapshot.scan(TableId::agent_state, as_bytes(kRowPrefix), [&](BytesView key, BytesView value) {
    const std::string_view name = as_text(key);
    if (!name.starts_with(kRowPrefix)) return false;
    visit(name.substr(kRowPrefix.size()), value);
    return true;
  });
}

Result<void> forget(const Snapshot& snapshot, ChangeSet& changes, uint64_t number) {
  const std::string name = aside_name(number);
  const std::string_view digits = std::string_view(name).substr(6);
  return scan_aside(snapshot, [&](std::string_view rest, BytesView) {
    if (rest.starts_with(digits)) remove_agent_blob(changes, "aside/" + std::string(rest));
  });
}

}  // namespace

Result<std::optional<SealedKey>> read_sealed_key(const Snapshot& snapshot) {
  TRY_ASSIGN(const std::optional<Bytes> bytes, read_agent_blob(snapshot, kKey));
  if (!bytes) return std::nullopt;
  TRY_ASSIGN(SealedKey key, decode(*bytes));
  return std::optional(std::move(key));
}

void put_sealed_key(ChangeSet& changes, const SealedKey& key) { put_agent_blob(changes, kKey, encode(key)); }
void remove_sealed_key(ChangeSet& changes) { remove_agent_blob(changes, kKey); }

std::vector<KeyAside> read_keys_aside(const Snapshot& snapshot) {
  std::vector<KeyAside> out;
  (void)scan_aside(snapshot, [&](std::string_view rest, BytesView value) {
    if (rest.find('/') != std::string_view::npos) return;
    uint64_t number = 0;
    for (const char c : rest) number = number * 10 + static_cast<uint64_t>(c - '0');
    if (auto key = decode(value)) out.insert(out.begin(), {number, std::move(*key)});
  });
  return out;
}

Result<size_t> set_aside(const Snapshot& snapshot, ChangeSet& changes, const SealedKey& key, uint64_t leaving) {
  std::vector<KeyAside> before = read_keys_aside(snapshot);
  const std::string name = aside_name(before.empty() ? 1 : before.front().number + 1);
  size_t rows = 0;
  TRY(snapshot.scan(TableId::agent_svids, {}, [&](BytesView id, BytesView row) {
    put_agent_blob(changes, name + "/" + std::string(as_text(id)), row);
    changes.remove(TableId::agent_svids, id);
    ++rows;
    return true;
  }));
  if (rows == 0) return 0;
  std::erase_if(before, [leaving](const KeyAside& aside) { return aside.number == leaving; });
  put_agent_blob(changes, name, encode(key));
  for (size_t i = kKeysAside - 1; i < before.size(); ++i) TRY(forget(snapshot, changes, before[i].number));
  return rows;
}

Result<size_t> take_back(const Snapshot& snapshot, ChangeSet& changes, const KeyAside& aside) {
  const std::string name = aside_name(aside.number).substr(6) + "/";
  size_t rows = 0;
  TRY(scan_aside(snapshot, [&](std::string_view rest, BytesView row) {
    if (!rest.starts_with(name)) return;
    const BytesView id = as_bytes(rest.substr(name.size()));
    if (!snapshot.get(TableId::agent_entries, id)) return;
    changes.put(TableId::agent_svids, id, row);
    ++rows;
  }));
  TRY(forget(snapshot, changes, aside.number));
  return rows;
}

}  // namespace limpet
