// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/token_uri.h"

#include <gtest/gtest.h>

#include "key_manager_pkcs11/key_encoding.h"

namespace limpet::pkcs11 {
namespace {

std::string refusal(std::string_view text) {
  const auto parsed = parse_token(text);
  return parsed ? "ok" : parsed.error().text();
}

TEST(TokenUri, ATextWithoutASchemeIsALabel) {
  EXPECT_EQ(parse_token("CA token 1")->token, (TokenMatch{"CA token 1", "", "", ""}));
  EXPECT_EQ(parse_token("a%20b;c=d")->token.label, "a%20b;c=d") << "nothing in it is special";
  EXPECT_NE(refusal(""), "ok");
  EXPECT_NE(refusal(std::string(33, 'x')), "ok");
  EXPECT_NE(refusal("\xff"), "ok");
}

TEST(TokenUri, ReadsWhatNamesAToken) {
  const auto uri = parse_token(
      "pkcs11:token=My%20CA;serial=0123;manufacturer=Sof%74;model=v2?module-path=/usr/lib/x.so&pin-source=file:/run/"
      "pin");
  ASSERT_TRUE(uri) << uri.error().text();
  EXPECT_EQ(uri->token, (TokenMatch{"My CA", "0123", "Soft", "v2"}));
  EXPECT_EQ(uri->module_path, "/usr/lib/x.so");
  EXPECT_EQ(uri->pin_file, "/run/pin");
  EXPECT_EQ(parse_token("pkcs11:serial=1?pin-source=file:///run/pin")->pin_file, "/run/pin");
  EXPECT_EQ(parse_token("pkcs11:serial=1?pin-source=/run/pin")->pin_file, "/run/pin");
  EXPECT_EQ(parse_token("pkcs11:token=%E2%82%AC;")->token.label, "\u20ac");
}

TEST(TokenUri, RefusesTheRestAndNamesIt) {
  const std::string begin = "InvalidArgument: token: ";
  EXPECT_EQ(refusal("pkcs11:"), begin + "the URI names no token: add token= or serial=");
  EXPECT_EQ(refusal("pkcs11:?module-path=/x"), begin + "the URI names no token: add token= or serial=");
  EXPECT_EQ(refusal("pkcs11:token"), begin + "\"token\" is no attribute with a value");
  EXPECT_EQ(refusal("pkcs11:token=a;object=b"),
            begin + "attribute \"object\" is not known; known: token, serial, manufacturer, model");
  EXPECT_EQ(refusal("pkcs11:token=a?max-sessions=1"),
            begin + "attribute \"max-sessions\" is not known; known: module-path, pin-source");
  EXPECT_EQ(refusal("pkcs11:token=a;token=b"), begin + "attribute \"token\" stands there twice");
  EXPECT_EQ(refusal("pkcs11:token="), begin + "\"token\" is empty or no text");
  EXPECT_EQ(refusal("pkcs11:token=a%00b"), begin + "\"token\" is empty or no text");
  EXPECT_EQ(refusal("pkcs11:token=%ff"), begin + "\"token\" is empty or no text");
  EXPECT_EQ(refusal("pkcs11:token=a%2"), begin + "\"%\" without two hex digits in \"token\"");
  EXPECT_EQ(refusal("pkcs11:token=a%zz"), begin + "\"%\" without two hex digits in \"token\"");
  EXPECT_EQ(refusal("pkcs11:token=a?pin-source=|cat"), begin + "\"pin-source\" must be a file by its whole path");
  EXPECT_EQ(refusal("pkcs11:token=" + std::string(3000, 'a')), begin + "longer than 2,048 bytes");
}

TEST(TokenUri, APinInItIsRefusedAndNotRepeated) {
  for (const char* text : {"pkcs11:token=a?pin-value=secret1", "pkcs11:token=a;pin-value=secret1"}) {
    EXPECT_NE(refusal(text).find("use pin_file or pin_env"), std::string::npos);
    EXPECT_EQ(refusal(text).find("secret1"), std::string::npos);
  }
}

TEST(TokenUri, MessagesNameTheToken) {
  EXPECT_EQ(describe({"ca", "", "", ""}), "token \"ca\"");
  EXPECT_EQ(describe({"ca", "12", "", "m"}), "token \"ca\", serial \"12\", model \"m\"");
  EXPECT_EQ(describe({"", "12", "", ""}), "token serial \"12\"");
}

// ---- what tokens answer ----
TEST(KeyEncoding, ALabelHoldsNamespaceAndId) {
  EXPECT_EQ(key_label("edge-1", "x509-CA-A"), "limpet:edge-1:key:x509-CA-A");
  EXPECT_EQ(id_in_label("edge-1", "limpet:edge-1:key:x509-CA-A"), "x509-CA-A");
  EXPECT_EQ(id_in_label("edge-1", "limpet:edge-1:key:a:b"), "a:b");
  for (const char* other :
       {"limpet:edge-11:key:a", "limpet:edge-:key:a", "limpet:edge-1:sealer", "x", "", "limpet:edge-1:key:"})
    EXPECT_EQ(id_in_label("edge-1", other), "") << other;
}

// The uncompressed point stands at the end of a SubjectPublicKeyInfo.
TEST(KeyEncoding, APointComesWrappedOrBare) {
  for (const KeyType type : {KeyType::ec_p256, KeyType::ec_p384}) {
    const auto key = PrivateKey::generate(type);
    const Bytes& spki = key->public_key().spki();
    const size_t size = type == KeyType::ec_p256 ? 65 : 97;
    const Bytes point = to_bytes(BytesView(spki).last(size));
    Bytes wrapped = {0x04, static_cast<uint8_t>(size)};
    append(wrapped, point);
    EXPECT_EQ(*ec_public_key(curve_of(type), point), key->public_key());
    EXPECT_EQ(*ec_public_key(curve_of(type), wrapped), key->public_key());
    EXPECT_EQ(*type_of(*ec_public_key(curve_of(type), point)), type);
    for (size_t cut = 0; cut < wrapped.size(); ++cut)
      EXPECT_FALSE(ec_public_key(curve_of(type), BytesView(wrapped).first(cut))) << cut;
    wrapped[size - 3] ^= 1;
    EXPECT_FALSE(ec_public_key(curve_of(type), wrapped)) << "not on the curve";
  }
  EXPECT_FALSE(ec_public_key({}, Bytes(65)));
  EXPECT_FALSE(ec_public_key(Bytes(33), Bytes(65)));
  EXPECT_FALSE(ec_public_key(curve_of(KeyType::ec_p256), Bytes(1000)));
}

// A bare point whose x begins with 63 looks like an OCTET STRING of the right length.
TEST(KeyEncoding, ABarePointThatLooksWrappedIsTakenAsItIs) {
  for (int tries = 0; tries < 20'000; ++tries) {
    const auto key = PrivateKey::generate(KeyType::ec_p256);
    const Bytes point = to_bytes(BytesView(key->public_key().spki()).last(65));
    if (point[1] != 63) continue;
    const auto read = ec_public_key(curve_of(KeyType::ec_p256), point);
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(*read, key->public_key());
    return;
  }
  FAIL() << "one in 256 keys should do";
}

TEST(KeyEncoding, RefusesOddRsaKeysAndSignatures) {
  EXPECT_FALSE(rsa_public_key({}, Bytes{3}));
  EXPECT_FALSE(rsa_public_key(Bytes(256, 0xff), {}));
  EXPECT_FALSE(rsa_public_key(Bytes(2000, 0xff), Bytes{3}));
  EXPECT_FALSE(rsa_public_key(Bytes(256, 0xff), Bytes(9, 1)));
  EXPECT_FALSE(ecdsa_signature({}));
  EXPECT_FALSE(ecdsa_signature(Bytes(63)));
  EXPECT_FALSE(ecdsa_signature(Bytes(200)));
  EXPECT_EQ(hex_encode(*ecdsa_signature(Bytes{0x00, 0x01, 0x80, 0x02})), "30080201010203008002");
}

TEST(KeyEncoding, ADigestIsCutToTheCurve) {
  EXPECT_EQ(shorten_digest(KeyType::ec_p256, Bytes(64)).size(), 32u);
  EXPECT_EQ(shorten_digest(KeyType::ec_p384, Bytes(64)).size(), 48u);
  EXPECT_EQ(shorten_digest(KeyType::ec_p384, Bytes(32)).size(), 32u);
}

}  // namespace
}  // namespace limpet::pkcs11
