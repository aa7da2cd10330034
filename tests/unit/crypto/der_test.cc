// SPDX-License-Identifier: Apache-2.0
#include "crypto/der.h"

#include <gtest/gtest.h>

namespace limpet {
namespace {

TEST(Der, RefusesEverythingThatIsNotTheShortestDefiniteForm) {
  for (const char* hex : {"", "30", "3080", "30800000", "308100", "30817f", "308201", "30820080", "3083000100",
                          "3084000000ff", "30ff", "3001", "1f0100", "0201"}) {
    const Bytes input = *hex_decode(hex);
    EXPECT_FALSE(der::Reader(input).next().has_value()) << hex;
  }
}

TEST(Der, LengthsGrowWithTheContent) {
  for (size_t size : {0u, 127u, 128u, 255u, 256u, 65535u, 65536u}) {
    const Bytes made = der::element(der::kOctetString, Bytes(size));
    EXPECT_EQ(made.size(), size + der::header_size(size));
    const auto read = der::single(made, der::kOctetString);
    ASSERT_TRUE(read.has_value()) << size;
    EXPECT_EQ(read->content.size(), size);
  }
}

TEST(Der, IntegersAreUnsignedAndMinimal) {
  const struct {
    const char* value;
    const char* der;
  } kCases[] = {{"", "020100"},   {"00", "020100"},   {"01", "020101"},
                {"7f", "02017f"}, {"80", "02020080"}, {"0000ff", "020200ff"}};
  for (const auto& c : kCases) EXPECT_EQ(hex_encode(der::unsigned_integer(*hex_decode(c.value))), c.der);
  for (const char* bad : {"", "80", "ff", "0001", "007f"})
    EXPECT_FALSE(der::read_unsigned(*hex_decode(bad)).has_value()) << bad;
  EXPECT_EQ(hex_encode(*der::read_unsigned(*hex_decode("00ff"))), "ff");
  EXPECT_FALSE(der::read_small(*hex_decode("008000000000000000")).has_value());
  EXPECT_EQ(*der::read_small(*hex_decode("7fffffffffffffff")), INT64_MAX);
}

TEST(Der, NamedBitsCutTrailingZeros) {
  const struct {
    uint16_t bits;
    const char* der;
  } kCases[] = {{0, "030100"},
                {1, "03020780"},
                {1 | 1 << 2 | 1 << 4, "030203a8"},
                {1 << 5 | 1 << 6, "03020106"},
                {1 << 8, "0303070080"}};
  for (const auto& c : kCases) {
    EXPECT_EQ(hex_encode(der::named_bits(c.bits)), c.der);
    const Bytes der = *hex_decode(c.der);
    EXPECT_EQ(*der::read_named_bits(BytesView(der).subspan(2)), c.bits);
  }
  for (const char* bad : {"", "01", "08ff", "0701"})
    EXPECT_FALSE(der::read_named_bits(*hex_decode(bad)).has_value()) << bad;
}

TEST(Der, OidsGoBothWays) {
  for (const char* oid :
       {"2.5.4.6", "1.2.840.10045.3.1.7", "1.3.132.0.34", "2.16.840.1.101.3.4.2.1", "2.999.1", "0.0", "1.39.16384"}) {
    const Bytes made = der::oid(oid);
    const auto element = der::single(made, der::kOid);
    ASSERT_TRUE(element.has_value());
    EXPECT_EQ(*der::read_oid(element->content), oid);
  }
  for (const char* bad : {"", "80", "8001", "2a80", "2affffffffffffffffff7f"})
    EXPECT_FALSE(der::read_oid(*hex_decode(bad)).has_value()) << bad;
}

TEST(Der, TimesFollowTheRuleOf2050) {
  const struct {
    int64_t unix_seconds;
    uint8_t tag;
    const char* text;
  } kCases[] = {
      {0, der::kUtcTime, "700101000000Z"},
      {-631152000, der::kUtcTime, "500101000000Z"},
      {-631152001, der::kGeneralizedTime, "19491231235959Z"},
      {951782400, der::kUtcTime, "000229000000Z"},
      {1795312930, der::kUtcTime, "261122020210Z"},
      {2524607999, der::kUtcTime, "491231235959Z"},
      {2524608000, der::kGeneralizedTime, "20500101000000Z"},
      {4107542400, der::kGeneralizedTime, "21000301000000Z"},
      {253402300799, der::kGeneralizedTime, "99991231235959Z"},
  };
  for (const auto& c : kCases) {
    const Bytes made = der::time(c.unix_seconds);
    const auto element = der::single(made, c.tag);
    ASSERT_TRUE(element.has_value()) << c.text;
    EXPECT_EQ(as_text(element->content), c.text);
    EXPECT_EQ(*der::read_time(*element), c.unix_seconds) << c.text;
  }
  EXPECT_EQ(der::time(INT64_MAX), der::time(253402300799));
}

TEST(Der, RefusesImpossibleTimes) {
  for (const char* text :
       {"", "Z", "2611220242Z", "261122024210", "261122024210+0000", "261322024210Z", "260022024210Z", "260229000000Z",
        "261131000000Z", "261122240000Z", "261122006000Z", "261122000060Z", "2611220242-1Z", "000100000000Z"})
    EXPECT_FALSE(der::read_time({der::kUtcTime, as_bytes(text), {}}).has_value()) << text;
  EXPECT_FALSE(der::read_time({der::kGeneralizedTime, as_bytes("20261122024210.5Z"), {}}).has_value());
  EXPECT_FALSE(der::read_time({der::kOctetString, as_bytes("261122024210Z"), {}}).has_value());
}

}  // namespace
}  // namespace limpet
