// SPDX-License-Identifier: Apache-2.0
#include "store/bundles.h"

#include "store/codec.h"

namespace limpet {

namespace {

bool read_x509(BytesView bytes, std::vector<X509Authority>& out) {
  X509Authority authority;
  ProtoReader in(bytes);
  while (in.next()) {
    if (in.field() == 1) authority.der = to_bytes(in.bytes());
    if (in.field() == 2) authority.tainted = in.flag();
  }
  out.push_back(std::move(authority));
  return in.ok();
}

bool read_jwt(BytesView bytes, std::vector<JwtAuthority>& out) {
  JwtAuthority authority;
  ProtoReader in(bytes);
  while (in.next()) {
    if (in.field() == 1) authority.key_id = in.text();
    if (in.field() == 2) authority.spki = to_bytes(in.bytes());
    if (in.field() == 3) authority.expires_at = in.number();
    if (in.field() == 4) authority.tainted = in.flag();
  }
  out.push_back(std::move(authority));
  return in.ok();
}

bool read_field(const ProtoReader& in, Bundle& bundle, std::string& trust_domain) {
  switch (in.field()) {
    case 1:
      trust_domain = in.text();
      break;
    case 2:
      return read_x509(in.bytes(), bundle.x509_authorities);
    case 3:
      return read_jwt(in.bytes(), bundle.jwt_authorities);
    case 4:
      bundle.refresh_hint = in.number();
      break;
    case 5:
      bundle.sequence_number = static_cast<uint64_t>(in.number());
      break;
    default:
      break;
  }
  return true;
}

}  // namespace

Bytes encode_bundle(const Bundle& bundle) {
  ProtoWriter out;
  out.text(1, bundle.trust_domain.name());
  for (const X509Authority& authority : bundle.x509_authorities) {
    ProtoWriter item;
    item.bytes(1, authority.der);
    item.flag(2, authority.tainted);
    out.item(2, item.view());
  }
  for (const JwtAuthority& authority : bundle.jwt_authorities) {
    ProtoWriter item;
    item.text(1, authority.key_id);
    item.bytes(2, authority.spki);
    item.number(3, authority.expires_at);
    item.flag(4, authority.tainted);
    out.item(3, item.view());
  }
  out.number(4, bundle.refresh_hint);
  out.number(5, static_cast<int64_t>(bundle.sequence_number));
  return out.take();
}

Result<Bundle> decode_bundle(BytesView bytes) {
  Bundle bundle;
  std::string trust_domain;
  ProtoReader in(bytes);
  while (in.next()) {
    if (!read_field(in, bundle, trust_domain)) return malformed_row("bundle " + trust_domain);
  }
  if (!in.ok()) return malformed_row("bundle " + trust_domain);
  TRY_ASSIGN_WITHIN("bundle " + trust_domain, bundle.trust_domain, TrustDomain::parse(trust_domain));
  return bundle;
}

Result<Bundle> find_bundle(const Snapshot& snapshot, const TrustDomain& trust_domain) {
  auto bytes = snapshot.get(TableId::bundles, text_key(trust_domain.name()));
  if (!bytes && bytes.error().code == Code::not_found) {
    return fail(Code::not_found, "bundle for trust domain \"" + trust_domain.name() + "\" not found");
  }
  if (!bytes) return fail(std::move(bytes).error());
  return decode_bundle(*bytes);
}

Result<void> scan_bundles(const Snapshot& snapshot, std::string_view after,
                          const std::function<bool(Bundle&&)>& visit) {
  Result<void> verdict;
  auto on_row = [&visit, &verdict](BytesView, BytesView value) {
    Result<Bundle> bundle = decode_bundle(value);
    if (!bundle) {
      verdict = fail(std::move(bundle).error());
      return false;
    }
    return visit(std::move(*bundle));
  };
  Bytes from = to_bytes(after);
  if (!from.empty()) from.push_back(0);  // the first key after it
  TRY(snapshot.scan(TableId::bundles, from, on_row));
  return verdict;
}

void put_bundle(ChangeSet& changes, const Bundle& bundle) {
  changes.put(TableId::bundles, text_key(bundle.trust_domain.name()), encode_bundle(bundle));
}

void update_bundle(ChangeSet& changes, const Bundle& old, const Bundle& bundle) {
  changes.require_equal(TableId::bundles, text_key(old.trust_domain.name()), encode_bundle(old));
  put_bundle(changes, bundle);
}

void remove_bundle(ChangeSet& changes, const TrustDomain& trust_domain) {
  changes.remove(TableId::bundles, text_key(trust_domain.name()));
}

}  // namespace limpet
