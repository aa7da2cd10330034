// SPDX-License-Identifier: Apache-2.0
#include "spiffe/jwt_svid.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "crypto/jws_sign.h"
#include "crypto/pss.h"
#include "spiffe/bundle.h"

namespace limpet {
namespace {

constexpr int64_t kNow = 1'795'312'835;
constexpr std::string_view kHeader = R"({"alg":"ES256","kid":"k","typ":"JWT"})";
constexpr std::string_view kClaims =
    R"({"aud":["a","b"],"exp":1795313135,"iat":1795312835,"sub":"spiffe://example.org/web"})";

const PrivateKey& ec_key() {
  static const PrivateKey key = *PrivateKey::generate(KeyType::ec_p256);
  return key;
}

std::string signed_token(std::string_view header, std::string_view claims, const PrivateKey& key = ec_key(),
                         HashAlg alg = HashAlg::sha256) {
  const std::string input = jws_signing_input(header, claims);
  return *jws_seal(input, key.type(), *key.sign(alg, hash(alg, as_bytes(input))));
}

std::string parse_error(std::string_view header, std::string_view claims) {
  const auto token = parse_jwt_svid(jws_signing_input(header, claims) + ".AAAA");
  if (token) return "taken";
  EXPECT_EQ(token.error().code, Code::invalid_argument);
  return token.error().message;
}

TEST(JwtSvid, AGoodTokenIsTakenApartAndVerified) {
  const auto token = parse_jwt_svid(signed_token(kHeader, kClaims));
  ASSERT_TRUE(token.has_value()) << token.error().message;
  EXPECT_EQ(token->algorithm, "ES256");
  EXPECT_EQ(token->key_id, "k");
  EXPECT_EQ(token->id.text(), "spiffe://example.org/web");
  EXPECT_EQ(token->audience, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(token->expires_at, 1'795'313'135);
  EXPECT_EQ(token->issued_at, 1'795'312'835);
  EXPECT_EQ(token->claims_json, kClaims);
  EXPECT_TRUE(verify_jwt_signature(*token, ec_key().public_key()).has_value());
  EXPECT_TRUE(check_jwt_claims(*token, "b", kNow).has_value());
}

TEST(JwtSvid, EachAlgorithmNeedsItsOwnKindOfKey) {
  const PrivateKey p384 = *PrivateKey::generate(KeyType::ec_p384);
  const PrivateKey rsa = *PrivateKey::generate(KeyType::rsa_2048);
  struct Case {
    const char* alg;
    const PrivateKey& key;
    HashAlg hash;
    bool good;
  };
  const Case cases[] = {
      {"ES256", ec_key(), HashAlg::sha256, true},  {"ES384", p384, HashAlg::sha384, true},
      {"RS256", rsa, HashAlg::sha256, true},       {"RS384", rsa, HashAlg::sha384, true},
      {"RS512", rsa, HashAlg::sha512, true},       {"ES384", ec_key(), HashAlg::sha384, false},
      {"ES256", p384, HashAlg::sha256, false},     {"ES512", p384, HashAlg::sha512, false},
      {"RS256", ec_key(), HashAlg::sha256, false}, {"ES256", rsa, HashAlg::sha256, false},
      {"PS256", rsa, HashAlg::sha256, false},  // a PKCS#1 v1.5 signature
  };
  for (const Case& c : cases) {
    const std::string header = R"({"alg":")" + std::string(c.alg) + R"(","kid":"k"})";
    const auto token = parse_jwt_svid(signed_token(header, kClaims, c.key, c.hash));
    ASSERT_TRUE(token.has_value()) << c.alg;
    EXPECT_EQ(verify_jwt_signature(*token, c.key.public_key()).has_value(), c.good)
        << c.alg << " " << key_type_name(c.key.type());
  }
  const std::string input = jws_signing_input(R"({"alg":"PS256","kid":"k"})", kClaims);
  const auto pss = sign_pss(rsa, sha256(as_bytes(input)));
  const auto token = parse_jwt_svid(input + "." + base64url_encode(*pss));
  EXPECT_TRUE(verify_jwt_signature(*token, rsa.public_key()).has_value());
}

TEST(JwtSvid, AChangedTokenOrAnotherKeyDoesNotVerify) {
  std::string text = signed_token(kHeader, kClaims);
  const auto token = parse_jwt_svid(text);
  EXPECT_FALSE(verify_jwt_signature(*token, PrivateKey::generate(KeyType::ec_p256)->public_key()).has_value());
  JwtSvidToken changed = *token;
  changed.signing_input[10] ^= 1;
  EXPECT_FALSE(verify_jwt_signature(changed, ec_key().public_key()).has_value());
  for (const size_t size : {size_t{0}, size_t{63}, size_t{65}}) {
    changed = *token;
    changed.signature.resize(size);
    EXPECT_FALSE(verify_jwt_signature(changed, ec_key().public_key()).has_value()) << size;
  }
}

TEST(JwtSvid, HeadersThatAreNotTaken) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"alg":"none","kid":"k"})", "unsupported token signature algorithm \"none\""},
      {R"({"alg":"HS256","kid":"k"})", "unsupported token signature algorithm \"HS256\""},
      {R"({"alg":"EdDSA","kid":"k"})", "unsupported token signature algorithm \"EdDSA\""},
      {R"({"kid":"k"})", "unsupported token signature algorithm \"\""},
      {R"({"alg":1,"kid":"k"})", "token member \"alg\" is not a string"},
      {R"({"alg":"ES256"})", "token missing key id"},
      {R"({"alg":"ES256","kid":""})", "token missing key id"},
      {R"({"alg":"ES256","kid":"k","typ":"at+jwt"})", "token type \"at+jwt\" is not JWT"},
      {R"({"alg":"ES256","kid":"k","crit":["exp"]})", "token has critical header parameters"},
      {R"({"alg":"none","alg":"ES256","kid":"k"})", "token has the member \"alg\" twice"},
      {R"(["ES256"])", "unable to parse JWT token"},
      {R"({"alg":"ES256")", "unable to parse JWT token"},
  };
  for (const auto& [header, text] : cases) EXPECT_EQ(parse_error(header, kClaims), text) << header;
  EXPECT_EQ(parse_error(R"({"alg":"ES256","kid":"k","typ":"JOSE"})", kClaims), "taken");
}

TEST(JwtSvid, ClaimsThatAreNotTaken) {
  std::string deep = R"({"sub":"spiffe://a/b","exp":1,"x":)" + std::string(16, '[') + std::string(16, ']') + "}";
  const std::pair<std::string, const char*> cases[] = {
      {R"({"exp":1})", "token missing subject claim"},
      {R"({"sub":"spiffe://a/b"})", "token missing exp claim"},
      {R"({"sub":"web","exp":1})", "token has an invalid subject claim: scheme is missing or invalid"},
      {R"({"sub":"spiffe://a/b","exp":"1"})", "token claim \"exp\" is not a time"},
      {R"({"sub":"spiffe://a/b","exp":-1})", "token claim \"exp\" is not a time"},
      {R"({"sub":"spiffe://a/b","exp":1e300})", "token claim \"exp\" is not a time"},
      {R"({"sub":"spiffe://a/b","exp":1,"iat":true})", "token claim \"iat\" is not a time"},
      {R"({"sub":"spiffe://a/b","exp":1,"aud":[1]})",
       "token claim \"aud\" is neither a string nor an array of strings"},
      {R"({"sub":"spiffe://a/b","exp":1,"aud":{}})", "token claim \"aud\" is neither a string nor an array of strings"},
      {R"({"sub":"spiffe://a/b","exp":1,"sub":"spiffe://a/c"})", "token has the member \"sub\" twice"},
      {R"({"sub":"spiffe://a/b","exp":1,"x":{"y":1,"y":2}})", "token has the member \"y\" twice"},
      {deep, "token is nested more than 16 levels deep"},
  };
  for (const auto& [claims, text] : cases) EXPECT_EQ(parse_error(kHeader, claims), text) << claims;
}

TEST(JwtSvid, TextsThatAreNoToken) {
  for (const std::string text : {"", "a", "a.b", "a.b.c.d", "..", "e30.e30.e30", "!.!.!", "e30=.e30=.AAAA"})
    EXPECT_FALSE(parse_jwt_svid(text).has_value()) << text;
  const std::string good = signed_token(kHeader, kClaims);
  EXPECT_EQ(parse_jwt_svid(good + std::string(limits::kJwtBytes, 'A')).error().message, "token is larger than 32 KiB");
  for (size_t cut = 0; cut < good.size(); cut += 7) {
    const auto token = parse_jwt_svid(good.substr(0, cut));
    EXPECT_TRUE(!token || !verify_jwt_signature(*token, ec_key().public_key())) << cut;
  }
}

TEST(JwtSvid, TimeAndAudienceHaveTheirTexts) {
  const auto token = *parse_jwt_svid(
      signed_token(kHeader, R"({"aud":"a","exp":1000,"iat":500,"nbf":500,"sub":"spiffe://example.org/web"})"));
  EXPECT_EQ(check_jwt_claims(token, "z", 700).error().message, "expected audience in [\"z\"] (audience=[\"a\"])");
  EXPECT_TRUE(check_jwt_claims(token, "a", 1060).has_value()) << "a minute of leeway";
  EXPECT_EQ(check_jwt_claims(token, "a", 1061).error().message, "token has expired");
  EXPECT_TRUE(check_jwt_claims(token, "a", 440).has_value());
  EXPECT_EQ(check_jwt_claims(token, "a", 439).error().message, "token is not valid yet");
  const auto future =
      *parse_jwt_svid(signed_token(kHeader, R"({"aud":["a"],"exp":9999,"iat":5000.5,"sub":"spiffe://example.org/w"})"));
  EXPECT_EQ(check_jwt_claims(future, "a", 700).error().message, "token was issued in the future");
}

TEST(BundleJwks, HasTheJwtKeysByKeyIdAndNothingOfSpiffes) {
  Bundle bundle;
  bundle.trust_domain = *TrustDomain::parse("example.org");
  bundle.sequence_number = 7;
  bundle.refresh_hint = 60;
  for (const char* id : {"b", "a"}) bundle.jwt_authorities.push_back({id, ec_key().public_key().spki(), 0, false});
  const std::string json = bundle_to_jwks(bundle);
  EXPECT_LT(json.find("\"kid\": \"a\""), json.find("\"kid\": \"b\"")) << json;
  EXPECT_EQ(json.find("use"), std::string::npos);
  EXPECT_EQ(json.find("spiffe"), std::string::npos);
  std::swap(bundle.jwt_authorities[0], bundle.jwt_authorities[1]);
  EXPECT_EQ(bundle_to_jwks(bundle), json);
}

}  // namespace
}  // namespace limpet
