// SPDX-License-Identifier: Apache-2.0
#pragma once
// Text of a peer's length, cut to ours, and text that may be none, made one. Pure, any thread.

#include <string>
#include <string_view>

#include "base/bytes.h"

namespace limpet {

// The length of the UTF-8 character at the start of `text`, 0 when there is none.
inline size_t utf8_length(std::string_view text) {
  for (size_t length = 1; length <= 4 && length <= text.size(); ++length) {
    if (is_utf8(text.substr(0, length))) return length;
  }
  return 0;
}

// `text` with a '?' in the place of each byte that belongs to no UTF-8 character.
inline std::string clean_text(std::string_view text) {
  std::string out(text);
  for (size_t at = 0; at < out.size();) {
    const size_t length = utf8_length(text.substr(at));
    if (length == 0) out[at] = '?';
    at += length == 0 ? 1 : length;
  }
  return out;
}

// At most `most` bytes of `text`, whole UTF-8 characters, and where something is missing three dots in their place.
inline std::string cut_text(std::string_view text, size_t most) {
  if (text.size() <= most) return std::string(text);
  constexpr std::string_view kDots = "...";
  size_t end = most > kDots.size() ? most - kDots.size() : 0;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return std::string(text.substr(0, end)) + std::string(kDots.substr(0, most - end));
}

}  // namespace limpet
