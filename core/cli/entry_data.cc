// SPDX-License-Identifier: Apache-2.0
#include "cli/entry_data.h"

#include <yyjson.h>

#include <limits>
#include <memory>

#include "cli/output.h"
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

Result<int32_t> ttl_from(int64_t seconds, const char* what) {
  if (seconds < 0) return fail(Code::invalid_argument, std::string("a positive ") + what + " TTL is required");
  if (seconds > std::numeric_limits<int32_t>::max()) {
    return fail(Code::invalid_argument, std::string(what) + " TTL is too large: at most 2147483647 seconds");
  }
  return static_cast<int32_t>(seconds);
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
  TRY_ASSIGN(entry->x509_svid_ttl, ttl_from(flags.number("x509SVIDTTL"), "x509-SVID"));
  TRY_ASSIGN(entry->jwt_svid_ttl, ttl_from(flags.number("jwtSVIDTTL"), "JWT-SVID"));

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

namespace {

std::string_view text_of(yyjson_val* object, const char* name) {
  yyjson_val* value = yyjson_obj_get(object, name);
  return yyjson_is_str(value) ? std::string_view(yyjson_get_str(value), yyjson_get_len(value)) : std::string_view();
}

int64_t number_of(yyjson_val* object, const char* name) { return yyjson_get_sint(yyjson_obj_get(object, name)); }

std::vector<std::string> texts_of(yyjson_val* object, const char* name) {
  std::vector<std::string> texts;
  size_t index, most;
  yyjson_val* item;
  yyjson_val* list = yyjson_obj_get(object, name);
  yyjson_arr_foreach(list, index, most, item) {
    if (yyjson_is_str(item)) texts.emplace_back(yyjson_get_str(item), yyjson_get_len(item));
  }
  return texts;
}

Result<EntryMessage> entry_from_json(yyjson_val* json) {
  if (!yyjson_is_obj(json)) return fail(Code::invalid_argument, "is not an object");
  EntryMessage entry;
  TRY_WITHIN("spiffe_id", set_id(entry->has_spiffe_id, entry->spiffe_id, text_of(json, "spiffe_id")));
  TRY_WITHIN("parent_id", set_id(entry->has_parent_id, entry->parent_id, text_of(json, "parent_id")));
  yyjson_val* selectors = yyjson_obj_get(json, "selectors");
  auto* out = set_array(entry->selectors, entry->selectors_count, yyjson_arr_size(selectors));
  size_t index, most;
  yyjson_val* item;
  yyjson_arr_foreach(selectors, index, most, item) {
    set_string(out[index].type, text_of(item, "type"));
    set_string(out[index].value, text_of(item, "value"));
  }
  TRY_ASSIGN(entry->x509_svid_ttl, ttl_from(number_of(json, "x509_svid_ttl"), "x509-SVID"));
  TRY_ASSIGN(entry->jwt_svid_ttl, ttl_from(number_of(json, "jwt_svid_ttl"), "JWT-SVID"));
  set_string(entry->id, text_of(json, "entry_id"));
  set_list(entry->federates_with, entry->federates_with_count, texts_of(json, "federates_with"));
  set_list(entry->dns_names, entry->dns_names_count, texts_of(json, "dns_names"));
  entry->admin = yyjson_get_bool(yyjson_obj_get(json, "admin"));
  entry->downstream = yyjson_get_bool(yyjson_obj_get(json, "downstream"));
  entry->store_svid = yyjson_get_bool(yyjson_obj_get(json, "store_svid"));
  entry->expires_at = number_of(json, "entry_expiry");
  set_string(entry->hint, text_of(json, "hint"));
  return entry;
}

}  // namespace

Result<std::vector<EntryMessage>> entries_from_file(const std::string& path) {
  TRY_ASSIGN(std::string content, read_file(path));
  yyjson_read_err error{};
  const std::unique_ptr<yyjson_doc, decltype(&yyjson_doc_free)> doc(
      yyjson_read_opts(content.data(), content.size(), YYJSON_READ_NOFLAG, nullptr, &error), yyjson_doc_free);
  if (doc == nullptr) {
    return fail(Code::invalid_argument, path + ": byte " + std::to_string(error.pos) + ": " + error.msg);
  }
  yyjson_val* list = yyjson_obj_get(yyjson_doc_get_root(doc.get()), "entries");
  if (!yyjson_is_arr(list)) return fail(Code::invalid_argument, path + ": no list named \"entries\"");
  std::vector<EntryMessage> entries;
  entries.reserve(yyjson_arr_size(list));
  size_t index, most;
  yyjson_val* item;
  yyjson_arr_foreach(list, index, most, item) {
    auto entry = entry_from_json(item);
    if (!entry) {
      return std::unexpected(std::move(entry).error().within(path + ": entry " + std::to_string(index)));
    }
    entries.push_back(std::move(*entry));
  }
  return entries;
}

}  // namespace limpet::cli
