// SPDX-License-Identifier: Apache-2.0
#include "store/agent_state.h"

#include "store/bundles.h"
#include "store/codec.h"

namespace limpet {

namespace {
constexpr std::string_view kSvid = "svid";
constexpr std::string_view kBundle = "bundle";
constexpr std::string_view kTime = "time";
// Named blobs have keys of their own, so that no name can shadow the fixed ones.
std::string blob_key(std::string_view name) { return "blob/" + std::string(name); }

Result<std::optional<BytesView>> read(const Snapshot& snapshot, std::string_view key) {
  auto bytes = snapshot.get(TableId::agent_state, as_bytes(key));
  if (bytes) return *bytes;
  if (bytes.error().code == Code::not_found) return std::nullopt;
  return fail(std::move(bytes).error());
}

Result<AgentSvid> decode_svid(BytesView bytes) {
  AgentSvid svid;
  ProtoReader in(bytes);
  while (in.next()) {
    if (in.field() == 1) svid.chain.push_back(to_bytes(in.bytes()));
    if (in.field() == 2) svid.key_id = in.text();
    if (in.field() == 3) svid.reattestable = in.flag();
  }
  if (!in.ok()) return malformed_row("agent SVID");
  return svid;
}
}  // namespace

Result<std::optional<AgentSvid>> read_agent_svid(const Snapshot& snapshot) {
  TRY_ASSIGN(std::optional<BytesView> bytes, read(snapshot, kSvid));
  if (!bytes) return std::nullopt;
  TRY_ASSIGN(AgentSvid svid, decode_svid(*bytes));
  return std::optional(std::move(svid));
}

void put_agent_svid(ChangeSet& changes, const AgentSvid& svid) {
  ProtoWriter out;
  for (const Bytes& certificate : svid.chain) out.item(1, certificate);
  out.text(2, svid.key_id);
  out.flag(3, svid.reattestable);
  changes.put(TableId::agent_state, as_bytes(kSvid), out.view());
}

void remove_agent_svid(ChangeSet& changes) { changes.remove(TableId::agent_state, as_bytes(kSvid)); }

Result<std::optional<Bundle>> read_agent_bundle(const Snapshot& snapshot) {
  TRY_ASSIGN(std::optional<BytesView> bytes, read(snapshot, kBundle));
  if (!bytes) return std::nullopt;
  TRY_ASSIGN(Bundle bundle, decode_bundle(*bytes));
  return std::optional(std::move(bundle));
}

void put_agent_bundle(ChangeSet& changes, const Bundle& bundle) {
  changes.put(TableId::agent_state, as_bytes(kBundle), encode_bundle(bundle));
}

Result<int64_t> read_agent_time(const Snapshot& snapshot) {
  TRY_ASSIGN(std::optional<BytesView> bytes, read(snapshot, kTime));
  return bytes ? static_cast<int64_t>(decode_u64(*bytes)) : 0;
}

void put_agent_time(ChangeSet& changes, int64_t unix_seconds) {
  changes.put(TableId::agent_state, as_bytes(kTime), encode_u64(static_cast<uint64_t>(unix_seconds)));
}

Result<std::optional<Bytes>> read_agent_blob(const Snapshot& snapshot, std::string_view name) {
  TRY_ASSIGN(std::optional<BytesView> bytes, read(snapshot, blob_key(name)));
  if (!bytes) return std::nullopt;
  return std::optional(to_bytes(*bytes));
}

void put_agent_blob(ChangeSet& changes, std::string_view name, BytesView blob) {
  changes.put(TableId::agent_state, as_bytes(blob_key(name)), blob);
}

void remove_agent_blob(ChangeSet& changes, std::string_view name) {
  changes.remove(TableId::agent_state, as_bytes(blob_key(name)));
}

}  // namespace limpet
