// SPDX-License-Identifier: Apache-2.0
#include "spiffe/bundle.h"

#include <gtest/gtest.h>

#include "crypto/jwk.h"
#include "unit/support/mint.h"

namespace limpet {
namespace {

using namespace test;  // NOLINT

const TrustDomain kTd = *TrustDomain::parse("example.org");

Bundle sample() {
  Bundle out;
  out.trust_domain = kTd;
  out.x509_authorities.push_back({vector_der("ca.pem"), false});
  out.jwt_authorities.push_back({"kid1", shared_key(KeyType::ec_p256).public_key().spki(), 0, false});
  out.sequence_number = 1;
  return out;
}

TEST(BundleJson, IsPrintedAsSpirePrintsIt) {
  const JwkMembers root = jwk_members(Certificate::parse(vector_der("ca.pem"))->key);
  const JwkMembers jwt = jwk_members(shared_key(KeyType::ec_p256).public_key());
  const std::string expected =
      "{\n    \"keys\": [\n        {\n            \"use\": \"x509-svid\",\n            \"kty\": \"EC\",\n            "
      "\"crv\": \"P-256\",\n"
      "            \"x\": \"" +
      root.x + "\",\n            \"y\": \"" + root.y + "\",\n            \"x5c\": [\n                \"" +
      base64_encode(vector_der("ca.pem")) +
      "\"\n            ]\n        },\n        {\n            \"use\": \"jwt-svid\",\n            \"kty\": \"EC\",\n"
      "            \"kid\": \"kid1\",\n            \"crv\": \"P-256\",\n            \"x\": \"" +
      jwt.x + "\",\n            \"y\": \"" + jwt.y + "\"\n        }\n    ],\n    \"spiffe_sequence\": 1\n}";
  EXPECT_EQ(bundle_to_json(sample()), expected);
}

TEST(BundleJson, ZeroNumbersAreLeftOutAndOthersWritten) {
  Bundle bundle = sample();
  bundle.sequence_number = 0;
  EXPECT_EQ(bundle_to_json(bundle).find("spiffe_"), std::string::npos);
  bundle.sequence_number = UINT64_MAX;
  bundle.refresh_hint = 300;
  const std::string text = bundle_to_json(bundle);
  EXPECT_TRUE(text.ends_with("    \"spiffe_sequence\": 18446744073709551615,\n    \"spiffe_refresh_hint\": 300\n}"))
      << text;
}

TEST(BundleJson, SurvivesTheRoundTrip) {
  Bundle bundle = sample();
  bundle.x509_authorities.push_back({make_root("rsa", KeyType::rsa_2048).certificate.der, false});
  bundle.jwt_authorities.push_back({"rsa \"kid\"", shared_key(KeyType::rsa_2048).public_key().spki(), 0, false});
  bundle.jwt_authorities.push_back({"p384", shared_key(KeyType::ec_p384).public_key().spki(), 0, false});
  bundle.sequence_number = uint64_t{1} << 63;
  bundle.refresh_hint = 60;
  const auto again = bundle_from_json(bundle_to_json(bundle), kTd);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(*again, bundle);
}

// The sample's text with one piece replaced.
std::string replaced(const std::string& from, const std::string& to) {
  std::string text = bundle_to_json(sample());
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(BundleJson, RefusesWhatIsNoBundle) {
  const std::string der = base64_encode(vector_der("ca.pem"));
  const std::string foreign = base64_encode(vector_der("server_svid.pem"));
  const struct {
    std::string json;
    const char* says;
  } kCases[] = {
      {"", "not valid JSON"},
      {"{", "not valid JSON"},
      {"{} x", "not valid JSON"},
      {std::string(500'000, '['), "not valid JSON"},
      {std::string(2u << 20, ' '), "larger than 1 MiB"},
      {"[]", "not a JSON object"},
      {"null", "not a JSON object"},
      {"{}", "no authorities found"},
      {R"({"keys":null})", "no authorities found"},
      {R"({"keys":{}})", "no authorities found"},
      {R"({"keys":[1]})", "key 0: not an object"},
      {R"({"keys":[{"use":1}]})", "\"use\" is not a string"},
      {R"({"keys":[],"spiffe_sequence":-1})", "\"spiffe_sequence\" is not a non-negative integer"},
      {R"({"keys":[],"spiffe_sequence":1.5})", "\"spiffe_sequence\" is not"},
      {R"({"keys":[],"spiffe_sequence":"1"})", "\"spiffe_sequence\" is not"},
      {R"({"keys":[],"spiffe_sequence":18446744073709551616})", "\"spiffe_sequence\" is not"},
      {R"({"keys":[],"spiffe_refresh_hint":99999999999})", "too large"},
      {R"({"keys":[{"use":"jwt-svid","kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"a"}]})", "wrong length"},
      {R"({"keys":[{"use":"jwt-svid","kty":"EC","crv":"P-256","kid":"a"}]})", "\"x\" is missing"},
      {replaced("\"kid\": \"kid1\",", ""), "keyID cannot be empty"},
      {replaced("\"kid\": \"kid1\",", "\"kid\": \"kid1\", \"d\": \"AA\","), "private key"},
      {replaced("\"" + der + "\"", ""), "expected a single certificate in x5c; got 0"},
      {replaced("\"" + der + "\"", "\"" + der + "\",\"" + der + "\""), "expected a single certificate in x5c; got 2"},
      {replaced("\"" + der + "\"", "7"), "x5c does not hold a string"},
      {replaced(der, der.substr(4)), "parse certificate"},
      {replaced(der, "*" + der), "x5c"},
      {replaced(der, foreign), "do not match"},
  };
  for (const auto& c : kCases) {
    const auto bundle = bundle_from_json(c.json, kTd);
    ASSERT_FALSE(bundle.has_value()) << c.says;
    EXPECT_EQ(bundle.error().code, Code::invalid_argument) << c.says;
    EXPECT_NE(bundle.error().message.find(c.says), std::string::npos) << bundle.error().message << " / " << c.says;
  }
}

TEST(BundleJson, TooManyKeysAreRefused) {
  std::string json = "{\"keys\":[{}";
  for (int i = 0; i < 2000; ++i) json += ",{}";
  EXPECT_EQ(bundle_from_json(json + "]}", kTd).error().message, "bundle: more than 2000 keys");
}

TEST(BundleJson, RefusesTheSameKeyIdTwice) {
  Bundle bundle = sample();
  bundle.jwt_authorities.push_back(bundle.jwt_authorities[0]);
  EXPECT_NE(bundle_from_json(bundle_to_json(bundle), kTd).error().message.find("twice"), std::string::npos);
}

TEST(BundleJson, SkipsWhatItDoesNotKnow) {
  for (const char* key : {R"({"use":"wit-svid","kty":"EC"})", R"({"use":"","kty":"EC"})", R"({"kty":"EC"})",
                          R"({"use":"jwt-svid","kty":"OKP","crv":"Ed25519","x":"AA","kid":"a"})",
                          R"({"use":"x509-svid","kty":"EC","crv":"P-521"})"}) {
    const auto bundle = bundle_from_json(std::string("{\"keys\":[") + key + "],\"extra\":{}}", kTd);
    ASSERT_TRUE(bundle.has_value()) << key << ": " << bundle.error().message;
    EXPECT_TRUE(bundle->x509_authorities.empty() && bundle->jwt_authorities.empty()) << key;
    EXPECT_EQ(bundle->trust_domain, kTd);
  }
}

TEST(BundleJson, SurvivesTruncationAtEveryByte) {
  const std::string json = bundle_to_json(sample());
  for (size_t size = 0; size < json.size(); ++size)
    EXPECT_FALSE(bundle_from_json(json.substr(0, size), kTd).has_value()) << size;
}

}  // namespace
}  // namespace limpet
