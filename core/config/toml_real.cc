// SPDX-License-Identifier: Apache-2.0
// The one number parser that toml++ takes from libstdc++, which keeps 25 kB of tables for it. A configuration has a
// fraction at most in a plugin's own data, so the C library's strtod does: it reads the same grammar, rounds to nearest
// too, and the program never leaves the C locale. The linker sends toml++'s call here (meson.build).

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>
#include <system_error>

extern "C" __attribute__((used)) std::from_chars_result limpet_toml_real(
    const char* first, const char* last, double& value,
    std::chars_format) __asm__("__wrap__ZSt10from_charsPKcS0_RdSt12chars_format");

std::from_chars_result limpet_toml_real(const char* first, const char* last, double& value, std::chars_format) {
  const std::string text(first, last);  // strtod wants an end
  char* end = nullptr;
  const double read = std::strtod(text.c_str(), &end);
  if (end == text.c_str()) return {first, std::errc::invalid_argument};
  if (std::isinf(read)) return {first + (end - text.c_str()), std::errc::result_out_of_range};
  value = read;
  return {first + (end - text.c_str()), {}};
}
