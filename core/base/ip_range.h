// SPDX-License-Identifier: Apache-2.0
#pragma once
// IP addresses as text and bytes, and ranges of them ("10.0.0.0/8"). IPv4 addresses are those of IPv6 that map them, so
// that "::ffff:10.0.0.1" is in that range too. Pure functions and values, any thread.

#include <array>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace limpet {

using IpBytes = std::array<uint8_t, 16>;

// INVALID_ARGUMENT. Brackets, zones and names are not taken.
Result<IpBytes> parse_ip(std::string_view text);
// Of 4 or 16 bytes; otherwise empty. A mapped IPv4 address is written as IPv4.
std::string ip_text(BytesView bytes);

class IpRange {
 public:
  // INVALID_ARGUMENT: the address or the length, which must be there.
  static Result<IpRange> parse(std::string_view cidr);
  [[nodiscard]] bool contains(const IpBytes& address) const;

 private:
  IpBytes address_{};
  unsigned bits_ = 0;
};

}  // namespace limpet
