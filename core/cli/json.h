// SPDX-License-Identifier: Apache-2.0
#pragma once
// A writer of compact JSON, for output that is more than one message: several pages as one list, or values that were
// never a message. Messages themselves are printed by wire/proto_json.h and put in with raw().

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace limpet::cli {

class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);
  JsonWriter& string(std::string_view text);
  JsonWriter& number(int64_t value);       // 32-bit fields
  JsonWriter& long_number(int64_t value);  // 64-bit fields: a string
  JsonWriter& boolean(bool value);
  JsonWriter& bytes(BytesView value);
  JsonWriter& raw(std::string_view json);  // a value that is JSON already
  [[nodiscard]] const std::string& text() const { return out_; }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void separate();
  std::string out_;
  bool first_ = true;  // nothing yet in the innermost object or array
  bool after_key_ = false;
};

}  // namespace limpet::cli
