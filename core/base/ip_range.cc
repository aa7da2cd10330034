// SPDX-License-Identifier: Apache-2.0
#include "base/ip_range.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace limpet {
namespace {

constexpr size_t kV4At = 12;  // where an IPv4 address stands in the IPv6 one that maps it
constexpr unsigned kV4Bits = 96;
constexpr std::array<uint8_t, kV4At> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

Result<IpBytes> parse_ip(std::string_view text) {
  const std::string terminated(text.substr(0, INET6_ADDRSTRLEN));
  IpBytes out{};
  if (text.find('\0') == std::string_view::npos && text.size() < INET6_ADDRSTRLEN) {
    if (inet_pton(AF_INET6, terminated.c_str(), out.data()) == 1) return out;
    std::ranges::copy(kMapped, out.begin());
    if (inet_pton(AF_INET, terminated.c_str(), out.data() + kV4At) == 1) return out;
  }
  return fail(Code::invalid_argument, "not an IP address");
}

std::string ip_text(BytesView bytes) {
  if (bytes.size() == 16 && std::ranges::equal(bytes.first(kV4At), kMapped)) bytes = bytes.subspan(kV4At);
  char text[INET6_ADDRSTRLEN] = "";
  if (bytes.size() == 4) inet_ntop(AF_INET, bytes.data(), text, sizeof text);
  if (bytes.size() == 16) inet_ntop(AF_INET6, bytes.data(), text, sizeof text);
  return text;
}

Result<IpRange> IpRange::parse(std::string_view cidr) {
  const size_t slash = cidr.find('/');
  if (slash == std::string_view::npos) return fail(Code::invalid_argument, "a length such as \"/8\" is missing");
  IpRange out;
  TRY_ASSIGN(out.address_, parse_ip(cidr.substr(0, slash)));
  const std::string_view length = cidr.substr(slash + 1);
  const bool v4 = cidr.substr(0, slash).find(':') == std::string_view::npos;
  const unsigned most = v4 ? 32 : 128;
  unsigned bits = 0;
  const auto [end, error] = std::from_chars(length.data(), length.data() + length.size(), bits);
  if (length.empty() || error != std::errc() || end != length.data() + length.size() || bits > most) {
    return fail(Code::invalid_argument, "the length must be from 0 to " + std::to_string(most));
  }
  out.bits_ = bits + (v4 ? kV4Bits : 0);
  return out;
}

bool IpRange::contains(const IpBytes& address) const {
  const size_t whole = bits_ / 8;
  if (!std::equal(address.begin(), address.begin() + static_cast<std::ptrdiff_t>(whole), address_.begin()))
    return false;
  const unsigned rest = bits_ % 8;
  return rest == 0 || (address.at(whole) >> (8 - rest)) == (address_.at(whole) >> (8 - rest));
}

}  // namespace limpet
