// SPDX-License-Identifier: Apache-2.0
#pragma once
// JSON from a peer, read the way Go's encoding/json fills a struct: member names match in any case and the last one
// wins, unknown members are ignored, null is an absent value, []byte is standard base64 with padding. Any thread.

#include <string_view>
#include <vector>

#include "base/bytes.h"

struct yyjson_doc;
struct yyjson_val;

namespace limpet::kit {

class GoJson {
 public:
  static Result<GoJson> parse(BytesView text);  // the document must be an object; INVALID_ARGUMENT
  ~GoJson();
  GoJson(GoJson&& other) noexcept;
  GoJson& operator=(GoJson&&) = delete;

  [[nodiscard]] yyjson_val* root() const { return root_; }
  // nullptr when absent or null.
  static yyjson_val* member(yyjson_val* object, std::string_view name);
  static Result<yyjson_val*> object(yyjson_val* parent, std::string_view name);  // nullptr when absent
  static Result<Bytes> bytes(yyjson_val* parent, std::string_view name);         // empty when absent
  static Result<std::vector<Bytes>> bytes_list(yyjson_val* parent, std::string_view name, size_t max_items);

 private:
  GoJson(yyjson_doc* doc, yyjson_val* root) : doc_(doc), root_(root) {}
  yyjson_doc* doc_;
  yyjson_val* root_;
};

}  // namespace limpet::kit
