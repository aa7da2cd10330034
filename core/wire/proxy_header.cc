// SPDX-License-Identifier: Apache-2.0
#include "wire/proxy_header.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/ip_range.h"
#include "base/limits.h"

namespace limpet::wire {
namespace {

constexpr std::string_view kText = "PROXY ";
constexpr std::string_view kBinary("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr size_t kTextBytes = 107;  // the longest that version 1 allows, its end of line included
constexpr size_t kBinaryHead = 16;
constexpr size_t kV4Addresses = 12;
constexpr size_t kV6Addresses = 36;

std::unexpected<Error> bad(std::string_view what) {
  return fail(Code::invalid_argument, "PROXY header: " + std::string(what));
}

// Whether `bytes` begins with `mark`, or is what it begins with.
bool may_begin(std::string_view bytes, std::string_view mark) {
  const size_t size = std::min(bytes.size(), mark.size());
  return bytes.substr(0, size) == mark.substr(0, size);
}

Result<uint16_t> port_of(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  const bool padded = text.size() > 1 && text.front() == '0';
  if (text.empty() || padded || error != std::errc() || end != text.data() + text.size()) return bad("no port");
  return port;
}

Result<std::string> address_of(std::string_view text, bool v6) {
  const auto address = parse_ip(text);
  if (!address || (text.find(':') != std::string_view::npos) != v6) return bad("no address of its family");
  return ip_text(*address);
}

// "TCP4 192.0.2.1 192.0.2.2 56324 443": blanks are single, as they are written.
Result<std::optional<StreamAddress>> text_source(std::string_view line) {
  if (line == "UNKNOWN" || line.starts_with("UNKNOWN ")) return std::optional<StreamAddress>();
  std::array<std::string_view, 5> words;
  for (size_t i = 0; i < words.size(); ++i) {
    const size_t end = i + 1 < words.size() ? line.find(' ') : line.size();
    if (end == std::string_view::npos) return bad("too few words");
    words.at(i) = line.substr(0, end);
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  if (words[0] != "TCP4" && words[0] != "TCP6") return bad("an unknown protocol");
  StreamAddress source;
  TRY_ASSIGN(source.ip, address_of(words[1], words[0] == "TCP6"));
  TRY(address_of(words[2], words[0] == "TCP6"));
  TRY_ASSIGN(source.port, port_of(words[3]));
  TRY(port_of(words[4]));
  return std::optional(std::move(source));
}

Result<std::optional<ProxyHeader>> read_text(std::string_view bytes) {
  const std::string_view line = bytes.substr(0, kTextBytes);
  const size_t end = line.find("\r\n");
  if (end == std::string_view::npos) {
    if (line.size() == kTextBytes) return bad("longer than 107 bytes");
    return std::optional<ProxyHeader>();
  }
  ProxyHeader header;
  header.size = end + 2;
  TRY_ASSIGN(header.source, text_source(line.substr(kText.size(), end - kText.size())));
  return std::optional(std::move(header));
}

uint16_t number(BytesView bytes, size_t at) { return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]); }

Result<std::optional<ProxyHeader>> read_binary(BytesView bytes) {
  if (bytes.size() < kBinaryHead) return std::optional<ProxyHeader>();
  const unsigned version = bytes[12] >> 4;
  const unsigned command = bytes[12] & 0x0f;
  const unsigned family = bytes[13] >> 4;
  const unsigned protocol = bytes[13] & 0x0f;
  const size_t length = number(bytes, 14);
  if (version != 2) return bad("an unknown version");
  if (command > 1) return bad("an unknown command");
  if (family > 3 || protocol > 2) return bad("an unknown family or protocol");
  if (length > limits::kProxyHeaderBytes) {
    return bad("larger than " + std::to_string(limits::kProxyHeaderBytes) + " bytes");
  }
  if (bytes.size() < kBinaryHead + length) return std::optional<ProxyHeader>();
  ProxyHeader header;
  header.size = kBinaryHead + length;
  const bool local = command == 0;
  if (local || protocol != 1 || family == 0 || family == 3) return std::optional(std::move(header));
  const bool v6 = family == 2;
  if (length < (v6 ? kV6Addresses : kV4Addresses)) return bad("too short for its addresses");
  StreamAddress source;
  source.ip = ip_text(bytes.subspan(kBinaryHead, v6 ? 16 : 4));
  source.port = number(bytes, kBinaryHead + (v6 ? 32 : 8));
  header.source = std::move(source);
  return std::optional(std::move(header));
}

}  // namespace

Result<std::optional<ProxyHeader>> read_proxy_header(BytesView bytes) {
  const std::string_view text = as_text(bytes);
  if (may_begin(text, kText)) {
    if (text.size() < kText.size()) return std::optional<ProxyHeader>();
    return read_text(text);
  }
  if (may_begin(text, kBinary)) {
    if (text.size() < kBinary.size()) return std::optional<ProxyHeader>();
    return read_binary(bytes);
  }
  return std::optional(ProxyHeader());
}

}  // namespace limpet::wire
