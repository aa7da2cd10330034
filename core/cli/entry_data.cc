// SPDX-License-Identifier: Apache-2.0
#include "cli/entry_data.h"

#include "spiffe/entry.h"
#include "spiffe/id.h"

namespace limpet::cli {

using wire::set_array;
using wire::set_string;

Result<void> set_id(bool& present, spire_api_types_SPIFFEID& id, std::string_view text) {
  TRY_ASSIGN(const SpiffeId parsed, SpiffeId::parse(text));
  present = true;
  set_string(id.trust_domain, parsed.trust_domain().name());
  set_string(id.path, parsed.path());
  return {};
}

namespace {

void set_list(char**& field, pb_size_t& count, const std::vector<std::string>& texts) {
  char** out = set_array(field, count, texts.size());
  for (size_t i = 0; i < texts.size(); ++i) set_string(out[i], texts[i]);
}

Result<void> set_selectors(spire_api_types_Entry& entry, const std::vector<std::string>& texts) {
  auto* out = set_array(entry.selectors, entry.selectors_count, texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    TRY_ASSIGN(const Selector selector, Selector::parse(texts[i]));
    set_string(out[i].type, selector.type);
    set_string(out[i].value, selector.value);
  }
  return {};
}

Result<int32_t> ttl_from(const Flags& flags, const char* flag, const char* what) {
  if (flags.number(flag) < 0)
    return fail(Code::invalid_argument, std::string("a positive ") + what + " TTL is required");
  return flags.seconds(flag);
}

}  // namespace

Result<EntryMessage> entry_from_flags(const Flags& flags) {
  const bool node = flags.on("node");
  EntryMessage entry;
  TRY(set_selectors(*entry, flags.list("selector")));
  if (flags.list("selector").empty()) return fail(Code::invalid_argument, "at least one selector is required");
  if (node && !flags.list("federatesWith").empty())
    return fail(Code::invalid_argument, "node entries can not federate");
  if (flags.text("parentID").empty() && !node) {
    return fail(Code::invalid_argument, "a parent ID is required if the node flag is not set");
  }
  if (flags.text("spiffeID").empty()) return fail(Code::invalid_argument, "a SPIFFE ID is required");
  TRY_ASSIGN(entry->x509_svid_ttl, ttl_from(flags, "x509SVIDTTL", "x509-SVID"));
  TRY_ASSIGN(entry->jwt_svid_ttl, ttl_from(flags, "jwtSVIDTTL", "JWT-SVID"));

  TRY(set_id(entry->has_spiffe_id, entry->spiffe_id, flags.text("spiffeID")));
  if (node) {  // a node alias hangs under the server itself
    entry->has_parent_id = true;
    set_string(entry->parent_id.trust_domain, wire::view(entry->spiffe_id.trust_domain));
    set_string(entry->parent_id.path, kServerPath);
  } else {
    TRY(set_id(entry->has_parent_id, entry->parent_id, flags.text("parentID")));
  }
  set_string(entry->id, flags.text("entryID"));
  set_list(entry->federates_with, entry->federates_with_count, flags.list("federatesWith"));
  set_list(entry->dns_names, entry->dns_names_count, flags.list("dns"));
  entry->admin = flags.on("admin");
  entry->downstream = flags.on("downstream");
  entry->store_svid = flags.on("storeSVID");
  entry->expires_at = flags.number("entryExpiry");
  set_string(entry->hint, flags.text("hint"));
  if (flags.on("disableX509SVIDPrefetch") || flags.on("jwtSVIDIncludeJTI")) {
    entry->has_additional_attributes = true;
    entry->additional_attributes.disable_x509_svid_prefetch = flags.on("disableX509SVIDPrefetch");
    entry->additional_attributes.jwt_svid_include_jti = flags.on("jwtSVIDIncludeJTI");
  }
  return entry;
}

}  // namespace limpet::cli
