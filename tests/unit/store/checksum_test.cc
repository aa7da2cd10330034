// SPDX-License-Identifier: Apache-2.0
#include "store/checksum.h"

#include <gtest/gtest.h>

namespace limpet {
namespace {

TEST(Checksum, MatchesTheVectorsOfRfc3720) {
  EXPECT_EQ(crc32c(0, Bytes(32, 0x00)), 0x8a9136aau);
  EXPECT_EQ(crc32c(0, Bytes(32, 0xff)), 0x62a8ab43u);
  Bytes rising(32);
  for (size_t i = 0; i < 32; ++i) rising[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(crc32c(0, rising), 0x46dd794eu);
  EXPECT_EQ(crc32c(0, as_bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c(crc32c(0, as_bytes("1234")), as_bytes("56789")), 0xe3069283u);
}

TEST(Checksum, EveryFlippedBitOfTableKeyAndValueIsSeen) {
  const Bytes key = to_bytes("key"), value = to_bytes("value of some length");
  Bytes stored(kChecksumBytes);
  store_checksum(stored.data(), value_checksum(16, key, value));
  append(stored, value);
  ASSERT_TRUE(checksum_holds(16, key, stored));
  EXPECT_FALSE(checksum_holds(17, key, stored));
  for (size_t bit = 0; bit < stored.size() * 8; ++bit) {
    Bytes flipped = stored;
    flipped[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    EXPECT_FALSE(checksum_holds(16, key, flipped)) << bit;
  }
  for (size_t bit = 0; bit < key.size() * 8; ++bit) {
    Bytes flipped = key;
    flipped[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    EXPECT_FALSE(checksum_holds(16, flipped, stored)) << bit;
  }
}

TEST(Checksum, AByteThatMovesFromKeyToValueIsSeen) {
  Bytes stored(kChecksumBytes);
  store_checksum(stored.data(), value_checksum(16, as_bytes("ab"), as_bytes("c")));
  append(stored, as_bytes("bc"));
  EXPECT_FALSE(checksum_holds(16, as_bytes("a"), stored));
}

TEST(Checksum, AValueTooShortForItsChecksumIsWrong) {
  EXPECT_FALSE(checksum_holds(16, as_bytes("a"), Bytes{1, 2, 3}));
  EXPECT_FALSE(checksum_holds(16, as_bytes("a"), {}));
}

}  // namespace
}  // namespace limpet
