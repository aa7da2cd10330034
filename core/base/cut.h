// SPDX-License-Identifier: Apache-2.0
#pragma once
// Text of a peer's length, cut to ours. Pure, any thread.

#include <string>
#include <string_view>

namespace limpet {

// At most `most` bytes of `text`, whole UTF-8 characters, and where something is missing three dots in their place.
inline std::string cut_text(std::string_view text, size_t most) {
  if (text.size() <= most) return std::string(text);
  constexpr std::string_view kDots = "...";
  size_t end = most > kDots.size() ? most - kDots.size() : 0;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return std::string(text.substr(0, end)) + std::string(kDots.substr(0, most - end));
}

}  // namespace limpet
