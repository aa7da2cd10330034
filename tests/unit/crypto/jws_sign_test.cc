// SPDX-License-Identifier: Apache-2.0
#include "crypto/jws_sign.h"

#include <gtest/gtest.h>

#include "crypto/der.h"

namespace limpet {
namespace {

Bytes ecdsa_signature(BytesView r, BytesView s) {
  return der::sequence({der::unsigned_integer(r), der::unsigned_integer(s)});
}

TEST(JwsSign, ASignatureIsRAndSOfTheCurvesLength) {
  const Bytes small = {7};
  const Bytes high(32, 0xff);  // DER puts a zero in front
  const std::string token = *jws_seal("head.body", KeyType::ec_p256, ecdsa_signature(small, high));
  ASSERT_TRUE(token.starts_with("head.body."));
  const Bytes raw = *base64url_decode(token.substr(10));
  ASSERT_EQ(raw.size(), 64u);
  EXPECT_EQ(raw[30], 0);
  EXPECT_EQ(raw[31], 7);
  EXPECT_EQ(Bytes(raw.begin() + 32, raw.end()), high);
  EXPECT_EQ(base64url_decode(jws_seal("", KeyType::ec_p384, ecdsa_signature(small, small))->substr(1))->size(), 96u);
}

TEST(JwsSign, RefusesWhatIsNoSignatureOfThisCurve) {
  const Bytes one = {1};
  const Bytes good = ecdsa_signature(one, one);
  Bytes trailing = good;
  trailing.push_back(0);
  const Bytes three =
      der::sequence({der::unsigned_integer(one), der::unsigned_integer(one), der::unsigned_integer(one)});
  for (const Bytes& bad :
       {Bytes{}, Bytes{0x30}, to_bytes(std::string_view("x")), Bytes(good.begin(), good.end() - 1), trailing, three,
        der::sequence({der::unsigned_integer(one)}), ecdsa_signature(Bytes(33, 1), one)}) {
    EXPECT_EQ(jws_seal("a.b", KeyType::ec_p256, bad).error().code, Code::invalid_argument) << hex_encode(bad);
  }
}

TEST(JwsSign, AnRsaSignatureIsTakenAsItIs) {
  const Bytes signature(256, 9);
  EXPECT_EQ(*jws_seal("a.b", KeyType::rsa_2048, signature), "a.b." + base64url_encode(signature));
}

TEST(JwsSign, NamesAndEncodesAsRfc7515Says) {
  EXPECT_EQ(jws_algorithm(KeyType::ec_p256), "ES256");
  EXPECT_EQ(jws_algorithm(KeyType::ec_p384), "ES384");
  EXPECT_EQ(jws_algorithm(KeyType::rsa_4096), "RS256");
  EXPECT_EQ(jws_signing_input(R"({"a":1})", "{}"), "eyJhIjoxfQ.e30");
}

}  // namespace
}  // namespace limpet
