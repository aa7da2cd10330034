// SPDX-License-Identifier: Apache-2.0
#include "wire/grpc_status.h"

#include <algorithm>
#include <charconv>

#include "base/bytes.h"

namespace limpet::wire {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

constexpr int64_t kLongestTimeoutMs = int64_t{1} << 53;

struct ResetCode {
  const char* name;
  Code code;
};
// RFC 9113 section 7, with the codes that grpc-go's http2_util.go gives them.
constexpr ResetCode kResetCodes[] = {
    {"NO_ERROR", Code::internal},
    {"PROTOCOL_ERROR", Code::internal},
    {"INTERNAL_ERROR", Code::internal},
    {"FLOW_CONTROL_ERROR", Code::resource_exhausted},
    {"SETTINGS_TIMEOUT", Code::internal},
    {"STREAM_CLOSED", Code::internal},
    {"FRAME_SIZE_ERROR", Code::internal},
    {"REFUSED_STREAM", Code::unavailable},
    {"CANCEL", Code::cancelled},
    {"COMPRESSION_ERROR", Code::internal},
    {"CONNECT_ERROR", Code::internal},
    {"ENHANCE_YOUR_CALM", Code::resource_exhausted},
    {"INADEQUATE_SECURITY", Code::permission_denied},
    {"HTTP_1_1_REQUIRED", Code::internal},
};

Code code_for_http_status(int status) {
  switch (status) {
    case 400:
      return Code::internal;
    case 401:
      return Code::unauthenticated;
    case 403:
      return Code::permission_denied;
    case 404:
      return Code::unimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return Code::unavailable;
    default:
      return Code::unknown;
  }
}

}  // namespace

std::string percent_encode(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte >= 0x20 && byte <= 0x7e && c != '%') {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::string percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    if (low >= 0) {
      out += static_cast<char>(high << 4 | low);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::optional<std::vector<uint8_t>> decode_bin(std::string_view text) {
  std::string padded(text);
  while (padded.size() % 4 != 0) padded += '=';
  auto bytes = base64_decode(padded);
  if (!bytes) return std::nullopt;
  return std::move(*bytes);
}

std::string encode_bin(const std::vector<uint8_t>& bytes) {
  std::string text = base64_encode(bytes);
  while (!text.empty() && text.back() == '=') text.pop_back();
  return text;
}

std::optional<int64_t> parse_timeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return std::nullopt;  // at most 8 digits and the unit
  int64_t value = 0;
  const char* end = text.data() + text.size() - 1;
  if (text.front() < '0' || text.front() > '9') return std::nullopt;
  if (auto [stop, failure] = std::from_chars(text.data(), end, value); failure != std::errc() || stop != end) {
    return std::nullopt;
  }
  switch (text.back()) {
    case 'H':
      return std::min(value * 3'600'000, kLongestTimeoutMs);
    case 'M':
      return value * 60'000;
    case 'S':
      return value * 1000;
    case 'm':
      return value;
    case 'u':
      return (value + 999) / 1000;
    case 'n':
      return (value + 999'999) / 1'000'000;
    default:
      return std::nullopt;
  }
}

std::string format_timeout(int64_t ms) {
  constexpr int64_t kMost = 99'999'999;
  if (ms <= kMost) return std::to_string(std::max<int64_t>(ms, 0)) + 'm';
  if (ms / 1000 <= kMost) return std::to_string(ms / 1000) + 'S';
  return std::to_string(std::min(ms / 3'600'000, kMost)) + 'H';
}

std::optional<Code> parse_status(std::string_view text) {
  uint32_t number = 0;
  const char* end = text.data() + text.size();
  if (auto [stop, failure] = std::from_chars(text.data(), end, number); failure != std::errc() || stop != end) {
    return std::nullopt;
  }
  return number <= static_cast<uint32_t>(Code::unauthenticated) ? static_cast<Code>(number) : Code::unknown;
}

Error error_for_reset(uint32_t http2_code) {
  const bool known = http2_code < std::size(kResetCodes);
  const std::string name = known ? kResetCodes[http2_code].name : std::to_string(http2_code);
  return Error{known ? kResetCodes[http2_code].code : Code::unknown,
               "stream terminated by RST_STREAM with error code: " + name};
}

Error error_for_http_status(int status, std::string_view content_type) {
  std::string text = "unexpected HTTP status code received from server: " + std::to_string(status);
  if (!content_type.starts_with("application/grpc")) {
    text += "; transport: received unexpected content-type \"" + std::string(content_type.substr(0, 100)) + '"';
  }
  return Error{code_for_http_status(status), std::move(text)};
}

}  // namespace limpet::wire
