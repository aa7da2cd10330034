// SPDX-License-Identifier: Apache-2.0
#include "store/entries.h"

#include <algorithm>

#include "crypto/key.h"
#include "store/codec.h"
#include "store/selector_codec.h"

namespace limpet {

namespace {

void read_field(const ProtoReader& in, Entry& entry, std::string& spiffe_id, std::string& parent_id) {
  switch (in.field()) {
    case 1:
      entry.id = in.text();
      break;
    case 2:
      spiffe_id = in.text();
      break;
    case 3:
      parent_id = in.text();
      break;
    case 5:
      entry.x509_svid_ttl = static_cast<int32_t>(in.number());
      break;
    case 6:
      entry.jwt_svid_ttl = static_cast<int32_t>(in.number());
      break;
    case 7:
      entry.federates_with.push_back(in.text());
      break;
    case 8:
      entry.admin = in.flag();
      break;
    case 9:
      entry.downstream = in.flag();
      break;
    case 10:
      entry.expires_at = in.number();
      break;
    case 11:
      entry.dns_names.push_back(in.text());
      break;
    case 12:
      entry.revision_number = in.number();
      break;
    case 13:
      entry.store_svid = in.flag();
      break;
    case 14:
      entry.hint = in.text();
      break;
    case 15:
      entry.created_at = in.number();
      break;
    case 16:
      entry.has_additional_attributes = in.flag();
      break;
    case 17:
      entry.disable_x509_svid_prefetch = in.flag();
      break;
    case 18:
      entry.jwt_svid_include_jti = in.flag();
      break;
    default:
      break;
  }
}

constexpr size_t kEntryKeyPath = 64;
constexpr size_t kEntryKeyDigest = 16;

void add_part(Bytes& out, std::string_view part) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(part.size() >> shift));
  append(out, as_bytes(part));
}

}  // namespace

Bytes encode_entry(const Entry& entry) {
  ProtoWriter out;
  out.text(1, entry.id);
  out.text(2, entry.spiffe_id.text());
  out.text(3, entry.parent_id.text());
  write_selectors(out, 4, entry.selectors);
  out.number(5, entry.x509_svid_ttl);
  out.number(6, entry.jwt_svid_ttl);
  for (const std::string& name : entry.federates_with) out.item(7, as_bytes(name));
  out.flag(8, entry.admin);
  out.flag(9, entry.downstream);
  out.number(10, entry.expires_at);
  for (const std::string& name : entry.dns_names) out.item(11, as_bytes(name));
  out.number(12, entry.revision_number);
  out.flag(13, entry.store_svid);
  out.text(14, entry.hint);
  out.number(15, entry.created_at);
  out.flag(16, entry.has_additional_attributes);
  out.flag(17, entry.disable_x509_svid_prefetch);
  out.flag(18, entry.jwt_svid_include_jti);
  return out.take();
}

Result<Entry> decode_entry(BytesView bytes) {
  Entry entry;
  std::string spiffe_id, parent_id;
  ProtoReader in(bytes);
  while (in.next()) {
    if (in.field() == 4) {
      if (!read_selector(in.bytes(), entry.selectors)) return malformed_row("entry " + entry.id);
    } else {
      read_field(in, entry, spiffe_id, parent_id);
    }
  }
  if (!in.ok()) return malformed_row("entry " + entry.id);
  if (!spiffe_id.empty()) {
    TRY_ASSIGN_WITHIN("entry " + entry.id + ": SPIFFE ID", entry.spiffe_id, SpiffeId::parse(spiffe_id));
  }
  if (!parent_id.empty()) {
    TRY_ASSIGN_WITHIN("entry " + entry.id + ": parent ID", entry.parent_id, SpiffeId::parse(parent_id));
  }
  return entry;
}

Bytes entry_key(const Entry& entry) {
  Bytes text;
  add_part(text, entry.spiffe_id.text());
  add_part(text, entry.parent_id.text());
  for (const Selector& selector : entry.selectors) {
    add_part(text, selector.type);
    add_part(text, selector.value);
  }
  // the path in front: entries made in the order of their names stand side by side, and a batch writes few pages
  Bytes key = to_bytes(std::string_view(entry.spiffe_id.path()).substr(0, kEntryKeyPath));
  append(key, BytesView(sha256(text)).first(kEntryKeyDigest));
  return key;
}

Result<EntryRow> entry_at(const Snapshot& snapshot, uint64_t row) {
  auto bytes = snapshot.get(TableId::entries, encode_u64(row));
  if (!bytes && bytes.error().code == Code::not_found) return fail(Code::not_found, "entry not found");
  if (!bytes) return fail(std::move(bytes).error());
  TRY_ASSIGN(Entry entry, decode_entry(*bytes));
  return EntryRow{row, std::move(entry)};
}

Result<EntryRow> find_entry(const Snapshot& snapshot, std::string_view id) {
  auto row = snapshot.get(TableId::entry_ids, text_key(id));
  if (!row && row.error().code == Code::not_found) return fail(Code::not_found, "entry not found");
  if (!row) return fail(std::move(row).error());
  return entry_at(snapshot, decode_u64(*row));
}

Result<std::optional<EntryRow>> find_similar_entry(const Snapshot& snapshot, const Entry& entry) {
  return find_similar_entry(snapshot, entry_key(entry));
}

Result<std::optional<EntryRow>> find_similar_entry(const Snapshot& snapshot, BytesView key) {
  auto row = snapshot.get(TableId::entry_keys, key);
  if (!row && row.error().code == Code::not_found) return std::nullopt;
  if (!row) return fail(std::move(row).error());
  TRY_ASSIGN(EntryRow found, entry_at(snapshot, decode_u64(*row)));
  return std::optional(std::move(found));
}

Result<void> scan_entries(const Snapshot& snapshot, uint64_t after, const std::function<bool(EntryRow&&)>& visit) {
  if (after == UINT64_MAX) return {};
  Result<void> verdict;
  auto on_row = [&visit, &verdict](BytesView key, BytesView value) {
    Result<Entry> entry = decode_entry(value);
    if (!entry) {
      verdict = fail(std::move(entry).error());
      return false;
    }
    return visit(EntryRow{decode_u64(key), std::move(*entry)});
  };
  TRY(snapshot.scan(TableId::entries, encode_u64(after + 1), on_row));
  return verdict;
}

Result<std::vector<EntryRow>> list_entries(const Snapshot& snapshot, uint64_t after, size_t limit) {
  std::vector<EntryRow> rows;
  if (limit == 0) return rows;
  auto keep = [&rows, limit](EntryRow&& row) {
    rows.push_back(std::move(row));
    return rows.size() < limit;
  };
  TRY(scan_entries(snapshot, after, keep));
  return rows;
}

std::string EntryTable::new_id(int64_t now) {
  // 32 bits of seconds and a counter of 16; more in one second borrow from the next
  last_id_ = std::max(last_id_ + 1, (static_cast<uint64_t>(now) & 0xffff'ffff) << 16);
  return ordered_uuid(last_id_);
}

uint64_t EntryTable::create(ChangeSet& changes, const Entry& entry, BytesView key) {
  uint64_t row = rows_.next(changes);
  Bytes number = encode_u64(row);
  Bytes id = text_key(entry.id);
  changes.require_absent(TableId::entry_ids, id);
  changes.require_absent(TableId::entry_keys, key);
  changes.put(TableId::entries, number, encode_entry(entry));
  changes.put(TableId::entry_ids, id, number);
  changes.put(TableId::entry_keys, key, number);
  return row;
}

void EntryTable::update(ChangeSet& changes, const EntryRow& old, const Entry& entry) {
  Bytes number = encode_u64(old.row);
  Bytes old_key = entry_key(old.entry);
  Bytes key = entry_key(entry);
  changes.require_equal(TableId::entries, number, encode_entry(old.entry));
  if (key != old_key) {
    changes.require_absent(TableId::entry_keys, key);
    changes.remove(TableId::entry_keys, old_key);
    changes.put(TableId::entry_keys, key, number);
  }
  changes.put(TableId::entries, number, encode_entry(entry));
}

void EntryTable::remove(ChangeSet& changes, const EntryRow& old) {
  Bytes number = encode_u64(old.row);
  changes.require_equal(TableId::entries, number, encode_entry(old.entry));
  changes.remove(TableId::entries, number);
  changes.remove(TableId::entry_ids, text_key(old.entry.id));
  changes.remove(TableId::entry_keys, entry_key(old.entry));
}

}  // namespace limpet
