// SPDX-License-Identifier: Apache-2.0
#include "kit/twin.h"

#include <gtest/gtest.h>

#include "crypto/der.h"
#include "support/mint.h"

namespace limpet::kit {
namespace {

using namespace test;

std::string negated(const std::string& s, uint32_t bits) {
  const auto out = negate_mod_order(*hex_decode(s), bits);
  return out ? hex_encode(*out) : out.error().message;
}

TEST(Twin, TheOtherNumberIsTheOrderWithoutTheFirst) {
  const std::string p256 = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
  const std::string p384 =
      "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
  EXPECT_EQ(negated("01", 256), p256.substr(0, 62) + "50");
  EXPECT_EQ(negated("0001", 256), p256.substr(0, 62) + "50");
  EXPECT_EQ(negated("52", 256), p256.substr(0, 60) + "24ff");  // borrows
  EXPECT_EQ(negated(p256.substr(0, 62) + "50", 256), std::string(62, '0') + "01");
  EXPECT_EQ(negated("02", 384), p384.substr(0, 94) + "71");
  EXPECT_EQ(negated(p384.substr(0, 94) + "71", 384), std::string(94, '0') + "02");
  const std::string none = "a signature's number is out of range";
  EXPECT_EQ(negated(p256.substr(0, 62) + "52", 256), none);
  EXPECT_EQ(negated("01" + std::string(64, '0'), 256), none);
  EXPECT_EQ(negated("01", 521), none);
}

TEST(Twin, ACertificateHasJustOneAndItIsAsValid) {
  for (const KeyType type : {KeyType::ec_p256, KeyType::ec_p384}) {
    const Authority root = make_root("root", type);
    const Certificate leaf = make_leaf(root);
    const auto der = certificate_twin(leaf, root.certificate.key);
    ASSERT_TRUE(der) << der.error().text();
    EXPECT_NE(*der, leaf.der);
    const auto twin = Certificate::parse(*der);
    ASSERT_TRUE(twin) << twin.error().text();
    EXPECT_TRUE(twin->verify_signed_by(root.certificate)) << key_type_name(type);
    EXPECT_EQ(*certificate_twin(*twin, root.certificate.key), leaf.der);
  }
  const Authority root = make_root("root", KeyType::rsa_2048);
  EXPECT_EQ(*certificate_twin(make_leaf(root), root.certificate.key), Bytes());
}

// mbedTLS verifies the first two, and there are more like them: each would be a certificate of its own.
TEST(Twin, ASignatureThatIsWrittenOtherwiseIsRefused) {
  const Authority root = make_root();
  const Certificate leaf = make_leaf(root);
  der::Reader parts(der::single(leaf.der, der::kSequence)->content);
  const Bytes body = to_bytes(parts.next()->whole);
  const Bytes algorithm = to_bytes(parts.next()->whole);
  const Bytes signature = to_bytes(*der::read_octet_bits(parts.next()->content));
  der::Reader numbers(der::single(signature, der::kSequence)->content);
  const der::Element r = *numbers.next();
  const der::Element s = *numbers.next();
  const auto number = [](BytesView front, BytesView content) { return der::element(der::kInteger, {front, content}); };
  const auto refused = [&](const Bytes& pair, bool valid = false) {
    const auto other =
        Certificate::parse(der::sequence({body, algorithm, der::bit_string(der::element(der::kSequence, pair))}));
    ASSERT_TRUE(other);
    EXPECT_TRUE(!valid || other->verify_signed_by(root.certificate)) << hex_encode(pair);
    EXPECT_FALSE(certificate_twin(*other, root.certificate.key)) << hex_encode(pair);
  };
  const auto joined = [](BytesView first, BytesView second, BytesView third = {}) {
    Bytes out = to_bytes(first);
    append(out, second);
    append(out, third);
    return out;
  };
  const Bytes zeros(2, 0);
  refused(joined(r.whole, number(zeros, s.content)), true);
  refused(joined(number(zeros, r.content), s.whole), true);
  refused(joined(r.whole, number(Bytes{0x80}, s.content)));
  refused(joined(number(Bytes{0x80}, r.content), s.whole));
  refused(joined(r.whole, s.whole, der::element(der::kNull, {})));
  refused(to_bytes(r.whole));
  refused(joined(r.whole, der::element(der::kInteger, Bytes(33, 0x7f))));
}

}  // namespace
}  // namespace limpet::kit
