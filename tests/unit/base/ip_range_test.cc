// SPDX-License-Identifier: Apache-2.0
#include "base/ip_range.h"

#include <gtest/gtest.h>

namespace limpet {
namespace {

bool in(const char* range, const char* address) {
  const auto parsed = IpRange::parse(range);
  EXPECT_TRUE(parsed) << range;
  return parsed && parsed->contains(parse_ip(address).value());
}

TEST(IpRange, Contains) {
  EXPECT_TRUE(in("10.0.0.0/8", "10.255.1.2"));
  EXPECT_FALSE(in("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(in("10.1.2.3/8", "10.9.9.9"));  // what stands behind the length does not matter
  EXPECT_TRUE(in("192.0.2.128/25", "192.0.2.255"));
  EXPECT_FALSE(in("192.0.2.128/25", "192.0.2.127"));
  EXPECT_TRUE(in("192.0.2.1/32", "192.0.2.1"));
  EXPECT_FALSE(in("192.0.2.1/32", "192.0.2.0"));
  EXPECT_TRUE(in("0.0.0.0/0", "255.255.255.255"));
  EXPECT_FALSE(in("0.0.0.0/0", "::1"));
  EXPECT_TRUE(in("::/0", "::1"));
  EXPECT_TRUE(in("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(in("2001:db8::/33", "2001:db8:8000::1"));
  EXPECT_TRUE(in("::1/128", "::1"));
}

TEST(IpRange, AMappedAddressIsTheOneItMaps) {
  EXPECT_TRUE(in("10.0.0.0/8", "::ffff:10.0.0.1"));
  EXPECT_TRUE(in("::ffff:10.0.0.0/104", "10.0.0.1"));
  EXPECT_EQ(ip_text(parse_ip("::ffff:10.0.0.1").value()), "10.0.0.1");
}

TEST(IpRange, WhatIsNone) {
  for (const char* bad : {"", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.0/ 8",
                          "10.0.0/8", "x/8", "::/129", "[::]/1", "fe80::1%eth0/64", "10.0.0.0/8/8", "::1/4294967297"})
    EXPECT_FALSE(IpRange::parse(bad)) << bad;
}

TEST(IpRange, AddressesAsText) {
  EXPECT_EQ(ip_text(parse_ip("192.0.2.1").value()), "192.0.2.1");
  EXPECT_EQ(ip_text(parse_ip("2001:DB8:0::1").value()), "2001:db8::1");
  EXPECT_EQ(ip_text(Bytes(5)), "");
  for (const std::string& bad : {std::string("1.2.3.4\0", 8), std::string("1.2.3.256"), std::string(500, '1')})
    EXPECT_FALSE(parse_ip(bad));
}

}  // namespace
}  // namespace limpet
