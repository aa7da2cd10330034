// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <array>

namespace limpet {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kBase64Url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr uint8_t kNoDigit = 0xff;

using DigitTable = std::array<uint8_t, 256>;

constexpr DigitTable digits_of(std::string_view alphabet) {
  DigitTable table{};
  table.fill(kNoDigit);
  for (size_t i = 0; i < alphabet.size(); i++) table[static_cast<uint8_t>(alphabet[i])] = static_cast<uint8_t>(i);
  return table;
}

constexpr DigitTable hex_table() {
  DigitTable table = digits_of(kHexDigits);
  for (uint8_t i = 0; i < 6; i++) table[static_cast<size_t>('A' + i)] = static_cast<uint8_t>(10 + i);
  return table;
}

constexpr DigitTable kHexValues = hex_table();
constexpr DigitTable kBase64Values = digits_of(kBase64);
constexpr DigitTable kBase64UrlValues = digits_of(kBase64Url);

std::string encode64(BytesView bytes, std::string_view alphabet, bool padded) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  size_t i = 0;
  for (; i + 3 <= bytes.size(); i += 3) {
    const uint32_t group = uint32_t{bytes[i]} << 16 | uint32_t{bytes[i + 1]} << 8 | bytes[i + 2];
    for (int shift = 18; shift >= 0; shift -= 6) out += alphabet[group >> shift & 63];
  }
  const size_t left = bytes.size() - i;
  if (left == 0) return out;
  const uint32_t group = uint32_t{bytes[i]} << 16 | (left == 2 ? uint32_t{bytes[i + 1]} << 8 : 0);
  out += alphabet[group >> 18 & 63];
  out += alphabet[group >> 12 & 63];
  if (left == 2) out += alphabet[group >> 6 & 63];
  if (padded) out.append(left == 2 ? 1 : 2, '=');
  return out;
}

// `text` without its padding. Canonical: the bits that no byte uses are zero, so that one value has one text.
Result<Bytes> decode64(std::string_view text, const DigitTable& values, const char* name) {
  const auto bad = [name](std::string_view why) {
    return fail(Code::invalid_argument, std::string(name) + ": " + std::string(why));
  };
  if (text.size() % 4 == 1) return bad("wrong length");
  Bytes out;
  out.reserve(text.size() / 4 * 3 + 2);
  uint32_t group = 0;
  int bits = 0;
  for (const char c : text) {
    const uint8_t value = values[static_cast<uint8_t>(c)];
    if (value == kNoDigit) return bad("character outside the alphabet");
    group = (group << 6 | value) & 0xffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    out.push_back(static_cast<uint8_t>(group >> bits));
  }
  if ((group & ((1u << bits) - 1)) != 0) return bad("unused bits are not zero");
  return out;
}

}  // namespace

std::string hex_encode(BytesView bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const uint8_t byte : bytes) {
    out += kHexDigits[byte >> 4];
    out += kHexDigits[byte & 15];
  }
  return out;
}

Result<Bytes> hex_decode(std::string_view text) {
  if (text.size() % 2 != 0) return fail(Code::invalid_argument, "hex: odd number of digits");
  Bytes out;
  out.reserve(text.size() / 2);
  for (size_t i = 0; i < text.size(); i += 2) {
    const uint8_t high = kHexValues[static_cast<uint8_t>(text[i])];
    const uint8_t low = kHexValues[static_cast<uint8_t>(text[i + 1])];
    if (high == kNoDigit || low == kNoDigit) return fail(Code::invalid_argument, "hex: not a hexadecimal digit");
    out.push_back(static_cast<uint8_t>(high << 4 | low));
  }
  return out;
}

std::string base64_encode(BytesView bytes) { return encode64(bytes, kBase64, true); }
std::string base64url_encode(BytesView bytes) { return encode64(bytes, kBase64Url, false); }

Result<Bytes> base64_decode(std::string_view text) {
  if (text.size() % 4 != 0) return fail(Code::invalid_argument, "base64: wrong length");
  if (text.ends_with("==")) {
    text.remove_suffix(2);
  } else if (text.ends_with('=')) {
    text.remove_suffix(1);
  }
  return decode64(text, kBase64Values, "base64");
}

Result<Bytes> base64url_decode(std::string_view text) { return decode64(text, kBase64UrlValues, "base64url"); }

bool is_utf8(std::string_view text) {
  const auto byte_at = [text](size_t i) { return static_cast<uint8_t>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const uint8_t lead = byte_at(i);
    if (lead < 0x80) {
      i++;
      continue;
    }
    // Unicode's table of well-formed sequences: only the second byte's range depends on the first.
    size_t length = 0;
    uint8_t low = 0x80, high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
      length = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      length = 3;
      if (lead == 0xe0) low = 0xa0;   // overlong
      if (lead == 0xed) high = 0x9f;  // surrogates
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      length = 4;
      if (lead == 0xf0) low = 0x90;   // overlong
      if (lead == 0xf4) high = 0x8f;  // above U+10FFFF
    } else {
      return false;
    }
    if (text.size() - i < length) return false;
    if (byte_at(i + 1) < low || byte_at(i + 1) > high) return false;
    for (size_t k = 2; k < length; k++) {
      if ((byte_at(i + k) & 0xc0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

}  // namespace limpet
