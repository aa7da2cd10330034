// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the shipped plugins share when they talk to the host through limpet_plugin.h: views of borrowed values, ending
// an op with an Error, and reading the JSON configuration strictly. Linked into each plugin; any thread.

#include <limpet_plugin.h>

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

struct yyjson_doc;
struct yyjson_val;

namespace limpet::kit {

inline std::string_view view(limpet_str s) { return s.len == 0 ? std::string_view() : std::string_view(s.ptr, s.len); }
inline BytesView view(limpet_bytes b) { return {b.ptr, b.len}; }
inline limpet_str lend(std::string_view s) { return {s.data(), s.size()}; }
inline limpet_bytes lend(BytesView b) { return {b.data(), b.size()}; }

// The status for an error; valid as long as `error` is.
inline limpet_status status_of(const Error& error) {
  return {sizeof(limpet_status), static_cast<limpet_code>(error.code), lend(error.message), 0, 0};
}
inline void end(limpet_op* op, limpet_done done, const Result<void>& result) {
  if (result) return done(op, nullptr);
  const limpet_status status = status_of(result.error());
  done(op, &status);
}

inline void end(limpet_op* op, limpet_bytes_done done, const Result<std::string>& text) {
  if (text) return done(op, nullptr, lend(as_bytes(*text)));
  const limpet_status status = status_of(text.error());
  done(op, &status, {});
}

inline void end(limpet_op* op, limpet_selectors_done done, const Result<std::vector<std::string>>& selectors) {
  if (!selectors) {
    const limpet_status status = status_of(selectors.error());
    return done(op, &status, {});
  }
  std::vector<limpet_str> items;
  items.reserve(selectors->size());
  for (const std::string& selector : *selectors) items.push_back(lend(selector));
  done(op, nullptr, {items.data(), items.size()});
}

// What a server half of a node attestor says: no, more, or yes.
void refuse(limpet_op* op, limpet_step_done done, const Error& error);
void challenge(limpet_op* op, limpet_step_done done, std::string_view text);
void attest(limpet_op* op, limpet_step_done done, std::string_view agent_path,
            const std::vector<std::string>& selectors, bool can_reattest);

void log(const limpet_host* host, int32_t level, std::string_view message);

// One JSON object with known keys. Reading a key checks its type; finish() refuses the keys that were never asked for.
// The first error wins and is kept until finish(). INVALID_ARGUMENT.
class ConfigReader {
 public:
  explicit ConfigReader(std::string_view json);
  ~ConfigReader();
  ConfigReader(const ConfigReader&) = delete;
  ConfigReader& operator=(const ConfigReader&) = delete;

  bool has(const char* key);                        // whatever its type
  std::string text(const char* key);                // empty when absent
  std::vector<std::string> texts(const char* key);  // a list of strings; empty when absent
  std::vector<int64_t> numbers(const char* key);    // a list of whole numbers; empty when absent
  bool flag(const char* key, bool absent);
  int64_t number(const char* key, int64_t absent);
  Result<void> finish();

 private:
  yyjson_val* find(const char* key);
  void wrong(const char* key, const char* expected);
  yyjson_doc* doc_ = nullptr;
  yyjson_val* root_ = nullptr;
  std::set<std::string, std::less<>> known_;
  std::optional<Error> error_;
};

}  // namespace limpet::kit
