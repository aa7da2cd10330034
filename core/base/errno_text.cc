// SPDX-License-Identifier: Apache-2.0
#include "base/errno_text.h"

#include <cstdlib>
#include <cstring>

namespace limpet {
namespace {

// strerror_r has two shapes: GNU's returns the text, POSIX's (musl) fills the buffer.
[[maybe_unused]] const char* text_of(const char* returned, const char*) { return returned; }
[[maybe_unused]] const char* text_of(int, const char* buffer) { return buffer; }

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }

}  // namespace

std::string errno_text(int error) {
  char buffer[128] = "";
  std::string text = text_of(strerror_r(std::abs(error), buffer, sizeof buffer), buffer);
  // "RFS specific error" keeps its capitals
  if (text.size() > 1 && is_upper(text[0]) && is_lower(text[1])) text[0] = static_cast<char>(text[0] - 'A' + 'a');
  return text;
}

}  // namespace limpet
