// SPDX-License-Identifier: Apache-2.0
#include "agent/claims_struct.h"

#include <yyjson.h>

#include <algorithm>
#include <memory>

#include "wire/message.h"

namespace limpet::agent {
namespace {

using Value = google_protobuf_Value;
using Member = std::pair<std::string_view, yyjson_val*>;

struct FreeDocument {
  void operator()(yyjson_doc* document) const { yyjson_doc_free(document); }
};

void write_value(Value& out, yyjson_val* value);

std::vector<Member> members_of(yyjson_val* object) {
  std::vector<Member> members;
  size_t index = 0;
  size_t max = 0;
  yyjson_val* name = nullptr;
  yyjson_val* value = nullptr;
  yyjson_obj_foreach(object, index, max, name, value)
      members.emplace_back(std::string_view(yyjson_get_str(name), yyjson_get_len(name)), value);
  std::ranges::sort(members, {}, &Member::first);
  return members;
}

void write_members(google_protobuf_Struct& out, const std::vector<Member>& members) {
  auto* field = wire::set_array(out.fields, out.fields_count, members.size());
  for (const auto& [name, value] : members) {
    wire::set_string(field->key, name);
    field->has_value = true;
    write_value(field->value, value);
    field++;
  }
}

void write_list(google_protobuf_ListValue& out, yyjson_val* array) {
  auto* place = wire::set_array(out.values, out.values_count, yyjson_arr_size(array));
  size_t index = 0;
  size_t max = 0;
  yyjson_val* one = nullptr;
  yyjson_arr_foreach(array, index, max, one) write_value(place[index], one);
}

// Not set_string(): a member of a oneof says something even when it is empty.
void write_text(Value& out, std::string_view text) {
  out.which_kind = google_protobuf_Value_string_value_tag;
  out.kind.string_value = static_cast<char*>(std::calloc(1, text.size() + 1));
  if (out.kind.string_value != nullptr) std::memcpy(out.kind.string_value, text.data(), text.size());
}

// Depth is bounded by parse_jwt_svid().
void write_value(Value& out, yyjson_val* value) {
  if (yyjson_is_str(value)) return write_text(out, {yyjson_get_str(value), yyjson_get_len(value)});
  if (yyjson_is_num(value)) {
    out.which_kind = google_protobuf_Value_number_value_tag;
    out.kind.number_value = yyjson_get_num(value);
  } else if (yyjson_is_bool(value)) {
    out.which_kind = google_protobuf_Value_bool_value_tag;
    out.kind.bool_value = yyjson_get_bool(value);
  } else if (yyjson_is_obj(value)) {
    out.which_kind = google_protobuf_Value_struct_value_tag;
    write_members(out.kind.struct_value, members_of(value));
  } else if (yyjson_is_arr(value)) {
    out.which_kind = google_protobuf_Value_list_value_tag;
    write_list(out.kind.list_value, value);
  } else {
    out.which_kind = google_protobuf_Value_null_value_tag;
  }
}

void write_audience(Value& out, yyjson_val* value) {
  if (yyjson_is_arr(value)) return write_value(out, value);
  out.which_kind = google_protobuf_Value_list_value_tag;
  auto* only = wire::set_array(out.kind.list_value.values, out.kind.list_value.values_count, 1);
  if (only != nullptr) write_value(*only, value);
}

}  // namespace

void write_claims(google_protobuf_Struct& out, std::string_view json, const std::vector<std::string>* only) {
  const std::unique_ptr<yyjson_doc, FreeDocument> document(yyjson_read(json.data(), json.size(), YYJSON_READ_NOFLAG));
  std::vector<Member> members = members_of(yyjson_doc_get_root(document.get()));
  if (only != nullptr)
    std::erase_if(members, [only](const Member& m) { return std::ranges::find(*only, m.first) == only->end(); });
  auto* field = wire::set_array(out.fields, out.fields_count, members.size());
  for (const auto& [name, value] : members) {
    wire::set_string(field->key, name);
    field->has_value = true;
    if (name == "aud")
      write_audience(field->value, value);
    else
      write_value(field->value, value);
    field++;
  }
}

}  // namespace limpet::agent
