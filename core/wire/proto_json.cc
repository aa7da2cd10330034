// SPDX-License-Identifier: Apache-2.0
#include "wire/proto_json.h"

#include <pb_common.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "proto/google/protobuf/struct.pb.h"
#include "proto/google/protobuf/wrappers.pb.h"

namespace {

enum class Kind { boolean, int32, uint32, int64, uint64, single, real, string, bytes, enumeration, message, map };
struct EnumValue {
  int number;
  const char* name;  // null ends the list
};
struct FieldName {
  const char* name;
  pb_size_t tag;
  Kind kind;
  const EnumValue* values;  // of an enumeration
};
struct MessageNames {
  const pb_msgdesc_t* type;
  const FieldName* fields;  // sorted by name
  size_t count;
};

}  // namespace

#include "proto/json_names.inc"

namespace limpet::wire {
namespace {

// Go's encoding/json, which the printed text went through last: it also escapes what HTML would trip over.
void append_string(std::string& out, std::string_view text) {
  out += '"';
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto byte = static_cast<uint8_t>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (byte < 0x20 || c == '<' || c == '>' || c == '&') {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", byte);
      out += escaped;
    } else if (text.substr(i, 3) == "\xe2\x80\xa8" || text.substr(i, 3) == "\xe2\x80\xa9") {
      out += text[i + 2] == '\xa8' ? "\\u2028" : "\\u2029";
      i += 2;
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_real(std::string& out, double value) {
  if (!std::isfinite(value)) {
    append_string(out, std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
    return;
  }
  char text[32];
  constexpr double kWhole = 1e15;  // below this every whole number has its own double; Go prints it without an exponent
  if (value == std::trunc(value) && std::fabs(value) < kWhole) {
    std::snprintf(text, sizeof text, "%.0f", value);
    out += text;
    return;
  }
  for (int digits = 1; digits <= 17; ++digits) {  // the shortest text that reads back as the same number
    std::snprintf(text, sizeof text, "%.*g", digits, value);
    if (std::strtod(text, nullptr) == value) break;
  }
  out += text;
}

template <class T>
T read(const void* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

const MessageNames* names_of(const pb_msgdesc_t* type) {
  const auto* found = std::ranges::find(kMessages, type, &MessageNames::type);
  return found == std::end(kMessages) ? nullptr : found;
}

class Printer {
 public:
  void message(const pb_msgdesc_t* type, const void* message) {
    if (well_known(type, message)) return;
    const MessageNames* names = names_of(type);
    out_ += '{';
    bool first = true;
    for (size_t i = 0; names != nullptr && i < names->count; ++i) {
      pb_field_iter_t field;
      const bool found =
          pb_field_iter_begin_const(&field, type, message) && pb_field_iter_find(&field, names->fields[i].tag);
      if (!found || absent(field)) continue;
      key(first, names->fields[i].name);
      this->field(field, names->fields[i]);
    }
    out_ += '}';
  }
  std::string take() { return std::move(out_); }

 private:
  void key(bool& first, std::string_view name) {
    if (!first) out_ += ',';
    first = false;
    append_string(out_, name);
    out_ += ':';
  }

  static bool absent(const pb_field_iter_t& field) {
    if (PB_HTYPE(field.type) == PB_HTYPE_ONEOF) return read<pb_size_t>(field.pSize) != field.tag;
    const bool optional = PB_HTYPE(field.type) == PB_HTYPE_OPTIONAL && PB_ATYPE(field.type) == PB_ATYPE_STATIC;
    return optional && PB_LTYPE_IS_SUBMSG(field.type) && field.pSize != nullptr && !read<bool>(field.pSize);
  }

  // Where element `index` of a field stands; repeated strings and bytes are arrays of pointers.
  static const void* element(const pb_field_iter_t& field, size_t index) {
    if (PB_LTYPE(field.type) == PB_LTYPE_STRING || PB_LTYPE(field.type) == PB_LTYPE_BYTES) {
      return static_cast<void* const*>(field.pData)[index];
    }
    return static_cast<const uint8_t*>(field.pData) + index * field.data_size;
  }

  void field(const pb_field_iter_t& field, const FieldName& name) {
    if (PB_HTYPE(field.type) != PB_HTYPE_REPEATED) return value(field, name, field.pData);
    const size_t count = field.pData == nullptr ? 0 : read<pb_size_t>(field.pSize);
    if (name.kind == Kind::map) return map(field, count);
    out_ += '[';
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) out_ += ',';
      value(field, name, element(field, i));
    }
    out_ += ']';
  }

  void value(const pb_field_iter_t& field, const FieldName& name, const void* data) {
    switch (name.kind) {
      case Kind::boolean:
        out_ += read<bool>(data) ? "true" : "false";
        break;
      case Kind::int32:
        out_ += std::to_string(read<int32_t>(data));
        break;
      case Kind::uint32:
        out_ += std::to_string(read<uint32_t>(data));
        break;
      case Kind::int64:
        append_string(out_, std::to_string(read<int64_t>(data)));
        break;
      case Kind::uint64:
        append_string(out_, std::to_string(read<uint64_t>(data)));
        break;
      case Kind::single:
        append_real(out_, static_cast<double>(read<float>(data)));
        break;
      case Kind::real:
        append_real(out_, read<double>(data));
        break;
      case Kind::string:
        append_string(out_, view(static_cast<const char*>(data)));
        break;
      case Kind::bytes:
        bytes(field, data);
        break;
      case Kind::enumeration:
        enumeration(name.values, data);
        break;
      case Kind::message:
        message(field.submsg_desc, data);
        break;
      case Kind::map:
        break;  // always repeated
    }
  }

  // Large bytes are a callback field: its data is the pointer itself.
  void bytes(const pb_field_iter_t& field, const void* data) {
    const BytesView view = PB_ATYPE(field.type) == PB_ATYPE_CALLBACK
                               ? wire::view(read<const limpet_large_bytes*>(data))
                               : wire::view(static_cast<const pb_bytes_array_t*>(data));
    append_string(out_, base64_encode(view));
  }

  void enumeration(const EnumValue* values, const void* data) {
    const int number = read<int>(data);
    for (; values->name != nullptr; ++values) {
      if (values->number == number) return append_string(out_, values->name);
    }
    out_ += std::to_string(number);
  }

  // A map is a repeated message of key (1, always a string here) and value (2).
  void map(const pb_field_iter_t& field, size_t count) {
    std::vector<std::pair<std::string_view, const void*>> entries;
    for (size_t i = 0; i < count; ++i) {
      pb_field_iter_t entry;
      const void* data = element(field, i);
      if (!pb_field_iter_begin_const(&entry, field.submsg_desc, data) || !pb_field_iter_find(&entry, 1)) continue;
      entries.emplace_back(view(static_cast<const char*>(entry.pData)), data);
    }
    std::ranges::sort(entries);
    const MessageNames* names = names_of(field.submsg_desc);
    out_ += '{';
    bool first = true;
    for (const auto& [name, data] : entries) {
      pb_field_iter_t entry;
      if (names == nullptr || !pb_field_iter_begin_const(&entry, field.submsg_desc, data)) continue;
      if (!pb_field_iter_find(&entry, 2)) continue;
      key(first, name);
      this->field(entry, names->fields[1]);  // "key" sorts before "value"
    }
    out_ += '}';
  }

  // ---- google.protobuf's own types ----
  bool well_known(const pb_msgdesc_t* type, const void* message) {
    if (type == &google_protobuf_BoolValue_msg) {
      out_ += static_cast<const google_protobuf_BoolValue*>(message)->value ? "true" : "false";
    } else if (type == &google_protobuf_StringValue_msg) {
      append_string(out_, view(static_cast<const google_protobuf_StringValue*>(message)->value));
    } else if (type == &google_protobuf_Struct_msg) {
      structure(*static_cast<const google_protobuf_Struct*>(message));
    } else if (type == &google_protobuf_Value_msg) {
      any_value(*static_cast<const google_protobuf_Value*>(message));
    } else {
      return false;
    }
    return true;
  }

  void structure(const google_protobuf_Struct& object) {
    std::vector<const google_protobuf_Struct_FieldsEntry*> entries;
    for (const auto& entry : items(object.fields, object.fields_count)) entries.push_back(&entry);
    std::ranges::sort(entries, {}, [](const auto* entry) { return view(entry->key); });
    out_ += '{';
    bool first = true;
    for (const auto* entry : entries) {
      key(first, view(entry->key));
      any_value(entry->value);
    }
    out_ += '}';
  }

  void any_value(const google_protobuf_Value& value) {
    switch (value.which_kind) {
      case google_protobuf_Value_number_value_tag:
        append_real(out_, value.kind.number_value);
        break;
      case google_protobuf_Value_string_value_tag:
        append_string(out_, view(value.kind.string_value));
        break;
      case google_protobuf_Value_bool_value_tag:
        out_ += value.kind.bool_value ? "true" : "false";
        break;
      case google_protobuf_Value_struct_value_tag:
        structure(value.kind.struct_value);
        break;
      case google_protobuf_Value_list_value_tag: {
        const auto& list = value.kind.list_value;
        out_ += '[';
        for (pb_size_t i = 0; i < list.values_count; ++i) {
          if (i > 0) out_ += ',';
          any_value(list.values[i]);
        }
        out_ += ']';
        break;
      }
      default:
        out_ += "null";
    }
  }

  std::string out_;
};

}  // namespace

std::string to_json(const pb_msgdesc_t* type, const void* message) {
  Printer printer;
  printer.message(type, message);
  return printer.take();
}

}  // namespace limpet::wire
