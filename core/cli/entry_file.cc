// SPDX-License-Identifier: Apache-2.0
// The JSON file of `entry create -data` and `entry update -data`. What is misspelt or of the wrong type would otherwise
// become a default that nobody asked for, so both are refused, and before anything is sent.
#include <strings.h>
#include <yyjson.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "base/limits.h"
#include "cli/entry_data.h"
#include "cli/output.h"

namespace limpet::cli {
namespace {

using wire::set_array;
using wire::set_string;
using ApiEntry = spire_api_types_Entry;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<std::string_view> text_of(yyjson_val* value) {
  if (!yyjson_is_str(value)) return invalid("a text is expected");
  return std::string_view(yyjson_get_str(value), yyjson_get_len(value));
}

Result<bool> boolean_of(yyjson_val* value) {
  if (!yyjson_is_bool(value)) return invalid("true or false is expected, without quotes");
  return yyjson_get_bool(value);
}

Result<int64_t> number_of(yyjson_val* value) {
  if (!yyjson_is_int(value)) return invalid("a whole number is expected, without quotes");
  if (yyjson_is_uint(value) && yyjson_get_uint(value) > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return invalid("the number is too large");
  }
  return yyjson_get_sint(value);
}

Result<int32_t> ttl_of(yyjson_val* value) {
  TRY_ASSIGN(const int64_t seconds, number_of(value));
  if (seconds < 0 || seconds > std::numeric_limits<int32_t>::max())
    return invalid("0 to 2147483647 seconds are possible");
  return static_cast<int32_t>(seconds);
}

Result<size_t> size_of_list(yyjson_val* value) {
  if (!yyjson_is_arr(value)) return invalid("a list is expected");
  if (yyjson_arr_size(value) > limits::kMessageItems) {
    return invalid("the list is too long: at most " + std::to_string(limits::kMessageItems) + " items");
  }
  return yyjson_arr_size(value);
}

Result<void> read_texts(char**& field, pb_size_t& count, yyjson_val* value) {
  TRY_ASSIGN(const size_t size, size_of_list(value));
  char** out = set_array(field, count, size);
  size_t index, most;
  yyjson_val* item;
  yyjson_arr_foreach(value, index, most, item) {
    TRY_ASSIGN_WITHIN(std::to_string(index), const std::string_view text, text_of(item));
    set_string(out[index], text);
  }
  return {};
}

// One key of an object: its name in SPIRE's file and what it fills.
template <class T>
struct Key {
  const char* name;
  Result<void> (*read)(T& out, yyjson_val* value);
};

// Names match in any case and null is an absent value, as Go has it.
template <class T, size_t kCount>
Result<void> read_object(T& out, yyjson_val* object, const Key<T> (&keys)[kCount]) {
  if (!yyjson_is_obj(object)) return invalid("an object is expected");
  size_t index, most;
  yyjson_val* name;
  yyjson_val* value;
  yyjson_obj_foreach(object, index, most, name, value) {
    const std::string text(yyjson_get_str(name), yyjson_get_len(name));
    const Key<T>* key = std::find_if(
        keys, keys + kCount, [&text](const Key<T>& known) { return ::strcasecmp(known.name, text.c_str()) == 0; });
    if (key == keys + kCount) return invalid("unknown key " + go_quoted(text));
    if (!yyjson_is_null(value)) TRY_WITHIN(key->name, key->read(out, value));
  }
  return {};
}

template <class T, auto kField>
Result<void> text_into(T& out, yyjson_val* value) {
  TRY_ASSIGN(const std::string_view text, text_of(value));
  set_string(out.*kField, text);
  return {};
}
template <class T, auto kField>
Result<void> boolean_into(T& out, yyjson_val* value) {
  TRY_ASSIGN(out.*kField, boolean_of(value));
  return {};
}
template <auto kField>
Result<void> ttl_into(ApiEntry& out, yyjson_val* value) {
  TRY_ASSIGN(out.*kField, ttl_of(value));
  return {};
}
template <auto kPresent, auto kField>
Result<void> id_into(ApiEntry& out, yyjson_val* value) {
  TRY_ASSIGN(const std::string_view text, text_of(value));
  return set_id(out.*kPresent, out.*kField, text);
}
template <auto kField, auto kCount>
Result<void> texts_into(ApiEntry& out, yyjson_val* value) {
  return read_texts(out.*kField, out.*kCount, value);
}

using ApiSelector = spire_api_types_Selector;
constexpr Key<ApiSelector> kSelectorKeys[] = {{"type", text_into<ApiSelector, &ApiSelector::type>},
                                              {"value", text_into<ApiSelector, &ApiSelector::value>}};

Result<void> read_selectors(ApiEntry& out, yyjson_val* value) {
  TRY_ASSIGN(const size_t size, size_of_list(value));
  auto* selectors = set_array(out.selectors, out.selectors_count, size);
  size_t index, most;
  yyjson_val* item;
  yyjson_arr_foreach(value, index, most, item) {
    TRY_WITHIN(std::to_string(index), read_object(selectors[index], item, kSelectorKeys));
  }
  return {};
}

Result<void> read_expiry(ApiEntry& out, yyjson_val* value) {
  TRY_ASSIGN(out.expires_at, number_of(value));
  return {};
}

using Attributes = spire_api_types_Entry_AdditionalAttributes;
constexpr Key<Attributes> kAttributeKeys[] = {
    {"disable_x509_svid_prefetch", boolean_into<Attributes, &Attributes::disable_x509_svid_prefetch>},
    {"jwt_svid_include_jti", boolean_into<Attributes, &Attributes::jwt_svid_include_jti>},
};

Result<void> read_attributes(ApiEntry& out, yyjson_val* value) {
  out.has_additional_attributes = true;
  return read_object(out.additional_attributes, value, kAttributeKeys);
}

// What the server sets itself; SPIRE takes it and looks away.
Result<void> read_unused(ApiEntry&, yyjson_val* value) {
  TRY(number_of(value));
  return {};
}

constexpr Key<ApiEntry> kEntryKeys[] = {
    {"selectors", read_selectors},
    {"parent_id", id_into<&ApiEntry::has_parent_id, &ApiEntry::parent_id>},
    {"spiffe_id", id_into<&ApiEntry::has_spiffe_id, &ApiEntry::spiffe_id>},
    {"x509_svid_ttl", ttl_into<&ApiEntry::x509_svid_ttl>},
    {"jwt_svid_ttl", ttl_into<&ApiEntry::jwt_svid_ttl>},
    {"federates_with", texts_into<&ApiEntry::federates_with, &ApiEntry::federates_with_count>},
    {"entry_id", text_into<ApiEntry, &ApiEntry::id>},
    {"admin", boolean_into<ApiEntry, &ApiEntry::admin>},
    {"downstream", boolean_into<ApiEntry, &ApiEntry::downstream>},
    {"entryExpiry", read_expiry},  // SPIRE's spelling, unlike that of its neighbours
    {"entry_expiry", read_expiry},
    {"dns_names", texts_into<&ApiEntry::dns_names, &ApiEntry::dns_names_count>},
    {"store_svid", boolean_into<ApiEntry, &ApiEntry::store_svid>},
    {"hint", text_into<ApiEntry, &ApiEntry::hint>},
    {"additional_attributes", read_attributes},
    {"revision_number", read_unused},
    {"created_at", read_unused},
};

Result<EntryMessage> entry_from_json(yyjson_val* json) {
  EntryMessage entry;
  TRY(read_object(*entry, json, kEntryKeys));
  if (!entry->has_spiffe_id) return invalid("spiffe_id is missing");
  if (!entry->has_parent_id) return invalid("parent_id is missing");
  return entry;
}

}  // namespace

Result<std::vector<EntryMessage>> entries_from_file(const std::string& path) {
  TRY_ASSIGN(std::string content, read_file(path));
  yyjson_read_err error{};
  const std::unique_ptr<yyjson_doc, decltype(&yyjson_doc_free)> doc(
      yyjson_read_opts(content.data(), content.size(), YYJSON_READ_NOFLAG, nullptr, &error), yyjson_doc_free);
  if (doc == nullptr) return invalid(path + ": byte " + std::to_string(error.pos) + ": " + error.msg);
  yyjson_val* list = yyjson_obj_get(yyjson_doc_get_root(doc.get()), "entries");
  if (!yyjson_is_arr(list)) return invalid(path + ": no list named \"entries\"");
  std::vector<EntryMessage> entries;
  entries.reserve(yyjson_arr_size(list));
  size_t index, most;
  yyjson_val* item;
  yyjson_arr_foreach(list, index, most, item) {
    TRY_ASSIGN_WITHIN(path + ": entry " + std::to_string(index), EntryMessage entry, entry_from_json(item));
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace limpet::cli
