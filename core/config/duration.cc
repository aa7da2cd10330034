// SPDX-License-Identifier: Apache-2.0
// Durations in Go's syntax: "1h30m", "1.5h", "90s", "500ms", "0".
#include <array>
#include <cmath>
#include <optional>

#include "config/config.h"

namespace limpet {
namespace {

struct Unit {
  std::string_view name;
  double ns;
};
// Longer names first: "ms" must not be read as "m".
constexpr std::array kUnits{Unit{"ns", 1},   Unit{"us", 1e3}, Unit{"\xc2\xb5s", 1e3}, Unit{"\xce\xbcs", 1e3},
                            Unit{"ms", 1e6}, Unit{"s", 1e9},  Unit{"m", 6e10},        Unit{"h", 3.6e12}};
constexpr double kLongestNs = 9.2e18;  // 292 years, as in Go

// A decimal number from the front of `text`.
std::optional<double> take_number(std::string_view& text) {
  double value = 0;
  double scale = 0;  // 0: before the point
  size_t digits = 0;
  size_t at = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '.' && scale == 0) {
      scale = 1;
      continue;
    }
    if (c < '0' || c > '9') break;
    ++digits;
    if (scale == 0) {
      value = value * 10 + (c - '0');
    } else {
      scale /= 10;
      value += (c - '0') * scale;
    }
  }
  text.remove_prefix(at);
  if (digits == 0) return std::nullopt;
  return value;
}

const Unit* take_unit(std::string_view& text) {
  for (const Unit& unit : kUnits) {
    if (!text.starts_with(unit.name)) continue;
    text.remove_prefix(unit.name.size());
    return &unit;
  }
  return nullptr;
}

Result<double> parse_ns(std::string_view text) {
  const auto bad = [text] {
    return fail(Code::invalid_argument,
                "\"" + std::string(text) + "\" is not a duration; write for example \"90s\" or \"1h30m\"");
  };
  if (text == "0") return 0.0;
  std::string_view rest = text;
  if (rest.empty()) return bad();
  double total = 0;
  while (!rest.empty()) {
    const auto number = take_number(rest);
    const Unit* unit = number ? take_unit(rest) : nullptr;
    if (unit == nullptr) return bad();
    total += *number * unit->ns;
    if (total > kLongestNs) return bad();
  }
  return total;
}

}  // namespace

Result<int64_t> parse_duration_s(std::string_view text) {
  TRY_ASSIGN(const double ns, parse_ns(text));
  return static_cast<int64_t>(std::ceil(ns / 1e9));
}

Result<int64_t> parse_duration_ms(std::string_view text) {
  TRY_ASSIGN(const double ns, parse_ns(text));
  return static_cast<int64_t>(std::ceil(ns / 1e6));
}

}  // namespace limpet
