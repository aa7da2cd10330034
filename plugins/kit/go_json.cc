// SPDX-License-Identifier: Apache-2.0
#include "kit/go_json.h"

#include <strings.h>
#include <yyjson.h>

#include <utility>

namespace limpet::kit {
namespace {

constexpr size_t kMaxBytes = 1u << 20;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

Result<Bytes> decode(yyjson_val* value, std::string_view name) {
  if (value == nullptr || yyjson_is_null(value)) return Bytes();
  if (!yyjson_is_str(value)) return invalid("json: " + std::string(name) + " must be a base64 string");
  std::string text(yyjson_get_str(value), yyjson_get_len(value));
  std::erase_if(text, [](char c) { return c == '\r' || c == '\n'; });  // Go's decoder skips them
  auto bytes = base64_decode(text);
  if (!bytes) return invalid("json: " + std::string(name) + ": " + bytes.error().message);
  return bytes;
}

}  // namespace

Result<GoJson> GoJson::parse(BytesView text) {
  if (text.size() > kMaxBytes) return invalid("json: larger than 1 MiB");
  if (text.empty()) return invalid("unexpected end of JSON input");
  yyjson_read_err why = {};
  const std::string_view chars = as_text(text);
  yyjson_doc* doc = yyjson_read_opts(const_cast<char*>(chars.data()), chars.size(), YYJSON_READ_NOFLAG, nullptr, &why);
  if (doc == nullptr) return invalid(std::string("json: ") + why.msg);
  GoJson out(doc, yyjson_doc_get_root(doc));
  if (!yyjson_is_obj(out.root_)) return invalid("json: the document must be an object");
  return out;
}

GoJson::~GoJson() { yyjson_doc_free(doc_); }
GoJson::GoJson(GoJson&& other) noexcept
    : doc_(std::exchange(other.doc_, nullptr)), root_(std::exchange(other.root_, nullptr)) {}

yyjson_val* GoJson::member(yyjson_val* object, std::string_view name) {
  yyjson_val* found = nullptr;
  size_t at = 0;
  size_t count = 0;
  yyjson_val* key = nullptr;
  yyjson_val* value = nullptr;
  yyjson_obj_foreach(object, at, count, key, value) {
    if (same_name({yyjson_get_str(key), yyjson_get_len(key)}, name)) found = value;
  }
  return found == nullptr || yyjson_is_null(found) ? nullptr : found;
}

Result<yyjson_val*> GoJson::object(yyjson_val* parent, std::string_view name) {
  yyjson_val* value = member(parent, name);
  if (value != nullptr && !yyjson_is_obj(value)) return invalid("json: " + std::string(name) + " must be an object");
  return value;
}

Result<Bytes> GoJson::bytes(yyjson_val* parent, std::string_view name) { return decode(member(parent, name), name); }

Result<std::vector<Bytes>> GoJson::bytes_list(yyjson_val* parent, std::string_view name, size_t max_items) {
  yyjson_val* list = member(parent, name);
  std::vector<Bytes> out;
  if (list == nullptr) return out;
  if (!yyjson_is_arr(list)) return invalid("json: " + std::string(name) + " must be a list");
  if (yyjson_arr_size(list) > max_items)
    return invalid("json: " + std::string(name) + " has more than " + std::to_string(max_items) + " items");
  size_t at = 0;
  size_t count = 0;
  yyjson_val* item = nullptr;
  yyjson_arr_foreach(list, at, count, item) {
    TRY_ASSIGN(Bytes bytes, decode(item, name));
    out.push_back(std::move(bytes));
  }
  return out;
}

}  // namespace limpet::kit
