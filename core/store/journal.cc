// SPDX-License-Identifier: Apache-2.0
#include "store/journal.h"

#include "store/codec.h"

namespace limpet {

namespace {

constexpr std::string_view kKey = "journal";
constexpr std::string_view kJwtKey = "jwt_journal";

Result<Journal> read_record(const Snapshot& snapshot, std::string_view key) {
  auto bytes = snapshot.get(TableId::ca_journal, as_bytes(key));
  if (!bytes && bytes.error().code == Code::not_found) return Journal{};
  if (!bytes) return fail(std::move(bytes).error());
  return decode_journal(*bytes);
}

Bytes encode_ca(const JournalX509Ca& ca) {
  ProtoWriter out;
  out.text(1, ca.slot_id);
  out.number(2, ca.issued_at);
  out.bytes(3, ca.certificate);
  for (const Bytes& certificate : ca.upstream_chain) out.item(4, certificate);
  out.number(5, static_cast<int32_t>(ca.status));
  out.text(6, ca.authority_id);
  out.number(7, ca.not_after);
  out.text(8, ca.upstream_authority_id);
  return out.take();
}

Bytes encode_key(const JournalJwtKey& key) {
  ProtoWriter out;
  out.text(1, key.slot_id);
  out.number(2, key.issued_at);
  out.number(3, key.not_after);
  out.text(4, key.key_id);
  out.bytes(5, key.public_key);
  out.number(6, static_cast<int32_t>(key.status));
  out.text(7, key.authority_id);
  return out.take();
}

bool decode_ca(BytesView bytes, JournalX509Ca& ca) {
  ProtoReader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1:
        ca.slot_id = in.text();
        break;
      case 2:
        ca.issued_at = in.number();
        break;
      case 3:
        ca.certificate = to_bytes(in.bytes());
        break;
      case 4:
        ca.upstream_chain.push_back(to_bytes(in.bytes()));
        break;
      case 5:
        ca.status = static_cast<AuthorityStatus>(in.number());
        break;
      case 6:
        ca.authority_id = in.text();
        break;
      case 7:
        ca.not_after = in.number();
        break;
      case 8:
        ca.upstream_authority_id = in.text();
        break;
      default:
        break;
    }
  }
  return in.ok();
}

bool decode_key(BytesView bytes, JournalJwtKey& key) {
  ProtoReader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1:
        key.slot_id = in.text();
        break;
      case 2:
        key.issued_at = in.number();
        break;
      case 3:
        key.not_after = in.number();
        break;
      case 4:
        key.key_id = in.text();
        break;
      case 5:
        key.public_key = to_bytes(in.bytes());
        break;
      case 6:
        key.status = static_cast<AuthorityStatus>(in.number());
        break;
      case 7:
        key.authority_id = in.text();
        break;
      default:
        break;
    }
  }
  return in.ok();
}

}  // namespace

Bytes encode_journal(const Journal& journal) {
  ProtoWriter out;
  for (const JournalX509Ca& ca : journal.x509_cas) out.item(1, encode_ca(ca));
  for (const JournalJwtKey& key : journal.jwt_keys) out.item(2, encode_key(key));
  return out.take();
}

Result<Journal> decode_journal(BytesView bytes) {
  Journal journal;
  ProtoReader in(bytes);
  while (in.next()) {
    if (in.field() == 1 && !decode_ca(in.bytes(), journal.x509_cas.emplace_back())) return malformed_row("CA journal");
    if (in.field() == 2 && !decode_key(in.bytes(), journal.jwt_keys.emplace_back())) return malformed_row("CA journal");
  }
  if (!in.ok()) return malformed_row("CA journal");
  return journal;
}

Result<Journal> read_journal(const Snapshot& snapshot) { return read_record(snapshot, kKey); }

Result<std::vector<JournalJwtKey>> read_jwt_journal(const Snapshot& snapshot) {
  TRY_ASSIGN(Journal journal, read_record(snapshot, kJwtKey));
  return std::move(journal.jwt_keys);
}

void put_jwt_journal(ChangeSet& changes, const std::vector<JournalJwtKey>& keys) {
  changes.put(TableId::ca_journal, as_bytes(kJwtKey), encode_journal({{}, keys}));
}

void put_journal(ChangeSet& changes, const Journal& journal) {
  changes.put(TableId::ca_journal, as_bytes(kKey), encode_journal(journal));
}

}  // namespace limpet
