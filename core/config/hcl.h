// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reads HCL 1 and JSON, the two languages a SPIRE configuration is written in, into one tree. Values only: functions
// and interpolation are left as they stand. Bounded in bytes, depth and values. Pure, any thread.
//
// A block's labels are tables inside of it: NodeAttestor "x509pop" { a = 1 } is NodeAttestor = { x509pop = { a = 1 } },
// and blocks of the same name are joined.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limpet {

struct HclValue {
  enum class Kind : uint8_t { text, number, boolean, list, object };
  Kind kind = Kind::object;
  uint32_t line = 0;              // the first is 1
  std::string text;               // of a text; a number and a boolean as they are written
  std::vector<std::string> keys;  // of an object: one for each item
  std::vector<HclValue> items;

  [[nodiscard]] const HclValue* find(std::string_view key) const;  // null: not an object, or no such key
};

inline constexpr size_t kHclBytes = size_t{1} << 20;  // as much as a configuration file may have
inline constexpr size_t kHclDepth = 32;
inline constexpr size_t kHclValues = 4096;

// The root is an object. INVALID_ARGUMENT "line 3: ...".
Result<HclValue> parse_hcl(std::string_view text);

// $NAME and ${NAME} replaced as Go's os.ExpandEnv does it: what `lookup` does not know (null) becomes nothing.
std::string expand_env(std::string_view text, const std::function<const char*(const char* name)>& lookup);

}  // namespace limpet
