// SPDX-License-Identifier: Apache-2.0
#include "store/federation.h"

#include "store/codec.h"

namespace limpet {

Bytes encode_relationship(const FederationRelationship& relationship) {
  ProtoWriter out;
  out.text(1, relationship.trust_domain.name());
  out.text(2, relationship.url);
  out.number(3, static_cast<int64_t>(relationship.profile));
  out.text(4, relationship.endpoint_id.text());
  return out.take();
}

Result<FederationRelationship> decode_relationship(BytesView bytes) {
  FederationRelationship out;
  std::string trust_domain, endpoint_id;
  int64_t profile = 0;
  ProtoReader in(bytes);
  while (in.next()) {
    if (in.field() == 1) trust_domain = in.text();
    if (in.field() == 2) out.url = in.text();
    if (in.field() == 3) profile = in.number();
    if (in.field() == 4) endpoint_id = in.text();
  }
  const std::string what = "federation relationship " + trust_domain;
  if (!in.ok()) return malformed_row(what);
  TRY_ASSIGN_WITHIN(what, out.trust_domain, TrustDomain::parse(trust_domain));
  if (!endpoint_id.empty()) {
    TRY_ASSIGN_WITHIN(what, out.endpoint_id, SpiffeId::parse(endpoint_id));
  }
  // a profile that a newer version added cannot be followed here
  if (profile != static_cast<int64_t>(BundleProfile::https_web) &&
      profile != static_cast<int64_t>(BundleProfile::https_spiffe)) {
    return malformed_row(what);
  }
  out.profile = static_cast<BundleProfile>(profile);
  return out;
}

Result<FederationRelationship> find_relationship(const Snapshot& snapshot, const TrustDomain& trust_domain) {
  auto bytes = snapshot.get(TableId::federation, text_key(trust_domain.name()));
  if (!bytes && bytes.error().code == Code::not_found) {
    return fail(Code::not_found, "federation relationship with trust domain \"" + trust_domain.name() + "\" not found");
  }
  if (!bytes) return fail(std::move(bytes).error());
  return decode_relationship(*bytes);
}

Result<void> scan_relationships(const Snapshot& snapshot, std::string_view after,
                                const std::function<bool(FederationRelationship&&)>& visit) {
  Result<void> verdict;
  auto on_row = [&visit, &verdict](BytesView, BytesView value) {
    Result<FederationRelationship> relationship = decode_relationship(value);
    if (!relationship) {
      verdict = fail(std::move(relationship).error());
      return false;
    }
    return visit(std::move(*relationship));
  };
  Bytes from = to_bytes(after);
  if (!from.empty()) from.push_back(0);  // the first key after it
  TRY(snapshot.scan(TableId::federation, from, on_row));
  return verdict;
}

void create_relationship(ChangeSet& changes, const FederationRelationship& relationship) {
  const Bytes key = text_key(relationship.trust_domain.name());
  changes.require_absent(TableId::federation, key);
  changes.put(TableId::federation, key, encode_relationship(relationship));
}

void update_relationship(ChangeSet& changes, const FederationRelationship& old,
                         const FederationRelationship& relationship) {
  const Bytes key = text_key(old.trust_domain.name());
  changes.require_equal(TableId::federation, key, encode_relationship(old));
  changes.put(TableId::federation, key, encode_relationship(relationship));
}

void remove_relationship(ChangeSet& changes, const TrustDomain& trust_domain) {
  const Bytes key = text_key(trust_domain.name());
  changes.require_present(TableId::federation, key);
  changes.remove(TableId::federation, key);
}

}  // namespace limpet
