// SPDX-License-Identifier: Apache-2.0
// Registration entries between the wire and the domain; the rest of the types stands in api_types.cc.
#include "wire/api_types.h"

namespace limpet::wire {
namespace {

// Whether a mask names a field; without a mask every field is named.
class Named {
 public:
  explicit Named(const spire_api_types_EntryMask* mask) : mask_(mask) {}
  bool operator()(bool spire_api_types_EntryMask::* field) const { return mask_ == nullptr || mask_->*field; }

 private:
  const spire_api_types_EntryMask* mask_;
};

using Mask = spire_api_types_EntryMask;

Result<void> read_ids(Entry& out, const spire_api_types_Entry& entry, const Named& named) {
  if (named(&Mask::parent_id) && entry.has_parent_id) {
    TRY_ASSIGN_WITHIN("invalid parent ID", out.parent_id, read_id(true, entry.parent_id));
  }
  if (named(&Mask::spiffe_id) && entry.has_spiffe_id) {
    TRY_ASSIGN_WITHIN("invalid spiffe ID", out.spiffe_id, read_id(true, entry.spiffe_id));
  }
  return {};
}

Result<void> read_federates_with(Entry& out, const spire_api_types_Entry& entry) {
  for (const std::string& name : read_strings(entry.federates_with, entry.federates_with_count)) {
    TRY_ASSIGN_WITHIN("invalid federated trust domain", const auto trust_domain, TrustDomain::parse(name));
    out.federates_with.push_back(trust_domain.name());
  }
  return {};
}

// As they stand; check_entry() judges them.
void read_entry_selectors(Entry& out, const spire_api_types_Entry& entry) {
  std::vector<Selector> selectors;
  for (const auto& selector : items(entry.selectors, entry.selectors_count)) {
    selectors.push_back({std::string(view(selector.type)), std::string(view(selector.value))});
  }
  out.selectors = make_selector_set(std::move(selectors));
}

void read_scalars(Entry& out, const spire_api_types_Entry& entry, const Named& named) {
  if (named(&Mask::x509_svid_ttl)) out.x509_svid_ttl = entry.x509_svid_ttl;
  if (named(&Mask::jwt_svid_ttl)) out.jwt_svid_ttl = entry.jwt_svid_ttl;
  if (named(&Mask::admin)) out.admin = entry.admin;
  if (named(&Mask::downstream)) out.downstream = entry.downstream;
  if (named(&Mask::expires_at)) out.expires_at = entry.expires_at;
  if (named(&Mask::revision_number)) out.revision_number = entry.revision_number;
  if (named(&Mask::store_svid)) out.store_svid = entry.store_svid;
  if (named(&Mask::hint)) out.hint = view(entry.hint);
  if (named(&Mask::created_at)) out.created_at = entry.created_at;
  if (named(&Mask::additional_attributes) && entry.has_additional_attributes) {
    out.has_additional_attributes = true;
    out.disable_x509_svid_prefetch = entry.additional_attributes.disable_x509_svid_prefetch;
    out.jwt_svid_include_jti = entry.additional_attributes.jwt_svid_include_jti;
  }
}

void write_scalars(spire_api_types_Entry& out, const Entry& entry, const Named& named) {
  if (named(&Mask::x509_svid_ttl)) out.x509_svid_ttl = entry.x509_svid_ttl;
  if (named(&Mask::jwt_svid_ttl)) out.jwt_svid_ttl = entry.jwt_svid_ttl;
  if (named(&Mask::admin)) out.admin = entry.admin;
  if (named(&Mask::downstream)) out.downstream = entry.downstream;
  if (named(&Mask::expires_at)) out.expires_at = entry.expires_at;
  if (named(&Mask::revision_number)) out.revision_number = entry.revision_number;
  if (named(&Mask::store_svid)) out.store_svid = entry.store_svid;
  if (named(&Mask::hint)) set_string(out.hint, entry.hint);
  if (named(&Mask::created_at)) out.created_at = entry.created_at;
  if (named(&Mask::additional_attributes) && entry.has_additional_attributes) {
    out.has_additional_attributes = true;
    out.additional_attributes.disable_x509_svid_prefetch = entry.disable_x509_svid_prefetch;
    out.additional_attributes.jwt_svid_include_jti = entry.jwt_svid_include_jti;
  }
}

}  // namespace

Result<Entry> read_entry(const spire_api_types_Entry& entry, const spire_api_types_EntryMask* mask) {
  const Named named(mask);
  Entry out;
  out.id = view(entry.id);
  TRY(read_ids(out, entry, named));
  if (named(&Mask::selectors)) read_entry_selectors(out, entry);
  if (named(&Mask::federates_with)) TRY(read_federates_with(out, entry));
  if (named(&Mask::dns_names)) out.dns_names = read_strings(entry.dns_names, entry.dns_names_count);
  read_scalars(out, entry, named);
  return out;
}

void write_entry(spire_api_types_Entry& out, const Entry& entry, const spire_api_types_EntryMask* mask) {
  const Named named(mask);
  set_string(out.id, entry.id);
  if (named(&Mask::spiffe_id)) write_id(out.has_spiffe_id, out.spiffe_id, entry.spiffe_id);
  if (named(&Mask::parent_id)) write_id(out.has_parent_id, out.parent_id, entry.parent_id);
  if (named(&Mask::selectors)) write_selectors(out.selectors, out.selectors_count, entry.selectors);
  if (named(&Mask::federates_with)) write_strings(out.federates_with, out.federates_with_count, entry.federates_with);
  if (named(&Mask::dns_names)) write_strings(out.dns_names, out.dns_names_count, entry.dns_names);
  write_scalars(out, entry, named);
}

}  // namespace limpet::wire
