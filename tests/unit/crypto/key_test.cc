// SPDX-License-Identifier: Apache-2.0
#include "crypto/key.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "crypto/der.h"
#include "crypto/jwk.h"
#include "unit/support/mint.h"
#include "unit/support/openssl.h"

namespace limpet {
namespace {

using test::shared_key;

constexpr KeyType kTypes[] = {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048};

Bytes digest_of(HashAlg alg) { return hash(alg, as_bytes("message")); }

Bytes ec_spki(const char* curve, BytesView point) {
  return der::sequence({der::sequence({der::oid("1.2.840.10045.2.1"), der::oid(curve)}), der::bit_string(point)});
}

Bytes rsa_spki(BytesView n, BytesView e) {
  const Bytes key = der::sequence({der::unsigned_integer(n), der::unsigned_integer(e)});
  return der::sequence(
      {der::sequence({der::oid("1.2.840.113549.1.1.1"), der::element(der::kNull, {})}), der::bit_string(key)});
}

Bytes odd_number(size_t size) {
  Bytes out(size, 0xab);
  return out;
}

TEST(PublicKey, RefusesWhatIsNoKeyOfOurs) {
  Bytes off_curve(65, 0x11);
  off_curve[0] = 4;
  const Bytes p256 = shared_key(KeyType::ec_p256).public_key().spki();
  Bytes trailing = p256;
  trailing.push_back(0);
  Bytes compressed(33, 0x11);
  compressed[0] = 2;
  const struct {
    const char* what;
    Bytes der;
    const char* says;
  } kCases[] = {
      {"nothing", {}, "malformed DER"},
      {"a bare tag", {0x30}, "malformed DER"},
      {"an indefinite length", {0x30, 0x80, 0, 0}, "malformed DER"},
      {"trailing bytes", trailing, "trailing data"},
      {"a point beside the curve", ec_spki("1.2.840.10045.3.1.7", off_curve), "not on the curve"},
      {"the point at infinity", ec_spki("1.2.840.10045.3.1.7", Bytes{0}), "uncompressed"},
      {"a compressed point", ec_spki("1.2.840.10045.3.1.7", compressed), "uncompressed"},
      {"a P-256 point called P-384", ec_spki("1.3.132.0.34", off_curve), "uncompressed"},
      {"P-521", ec_spki("1.3.132.0.35", Bytes(133, 4)), "unsupported elliptic curve 1.3.132.0.35"},
      {"Ed25519", der::sequence({der::sequence({der::oid("1.3.101.112")}), der::bit_string(Bytes(32, 1))}),
       "unsupported public key algorithm 1.3.101.112"},
      {"RSA of 1024 bits", rsa_spki(odd_number(128), Bytes{1, 0, 1}), "smaller than 2048"},
      {"RSA of 2040 bits", rsa_spki(odd_number(255), Bytes{1, 0, 1}), "smaller than 2048"},
      {"RSA of 16384 bits", rsa_spki(odd_number(2048), Bytes{1, 0, 1}), "too large"},
      {"RSA of 8200 bits", rsa_spki(odd_number(1025), Bytes{1, 0, 1}), "larger than 8192"},
      {"an RSA exponent of 5 bytes", rsa_spki(odd_number(256), Bytes{1, 0, 0, 0, 1}), "exponent"},
      {"an RSA exponent of 0", rsa_spki(odd_number(256), {}), "exponent"},
      {"an even RSA exponent", rsa_spki(odd_number(256), Bytes{2}), "invalid RSA"},
  };
  for (const auto& c : kCases) {
    const auto key = PublicKey::from_spki(c.der);
    ASSERT_FALSE(key.has_value()) << c.what;
    EXPECT_EQ(key.error().code, Code::invalid_argument) << c.what;
    EXPECT_NE(key.error().message.find(c.says), std::string::npos) << c.what << ": " << key.error().message;
  }
}

TEST(PublicKey, SurvivesTruncationAtEveryByte) {
  for (KeyType type : kTypes) {
    const Bytes spki = shared_key(type).public_key().spki();
    for (size_t size = 0; size < spki.size(); ++size)
      EXPECT_FALSE(PublicKey::from_spki(BytesView(spki).first(size)).has_value()) << size;
  }
}

TEST(PublicKey, KeyIdentifierIsTheSha1OfTheBitString) {
  // RFC 7093 calls this RFC 5280 method 1; openssl computes the same for subjectKeyIdentifier=hash.
  const auto cert = Certificate::parse(test::vector_der("server_svid.pem"));
  ASSERT_TRUE(cert.has_value());
  EXPECT_EQ(cert->key.key_id(), cert->subject_key_id);
  EXPECT_EQ(hex_encode(cert->key.key_id()), "aaacaa50d0c35621d3168b1af3b5bc8b9ebdc18c");
}

TEST(PrivateKey, SignsWhatItsPublicKeyVerifies) {
  for (KeyType type : kTypes)
    for (HashAlg alg : {HashAlg::sha256, HashAlg::sha384, HashAlg::sha512}) {
      const PrivateKey& key = shared_key(type);
      const auto signature = key.sign(alg, digest_of(alg));
      ASSERT_TRUE(signature.has_value());
      EXPECT_TRUE(key.public_key().verify(alg, digest_of(alg), *signature).has_value());
      Bytes other = digest_of(alg);
      other[3] ^= 1;
      EXPECT_EQ(key.public_key().verify(alg, other, *signature).error().message, "signature does not match");
      EXPECT_FALSE(shared_key(type, 1).public_key().verify(alg, digest_of(alg), *signature).has_value());
    }
}

TEST(PrivateKey, DamagedSignaturesAreRefused) {
  for (KeyType type : kTypes) {
    const PrivateKey& key = shared_key(type);
    const Bytes digest = digest_of(HashAlg::sha256);
    const Bytes good = *key.sign(HashAlg::sha256, digest);
    for (size_t size : {size_t{0}, size_t{1}, good.size() / 2, good.size() - 1})
      EXPECT_FALSE(key.public_key().verify(HashAlg::sha256, digest, BytesView(good).first(size)).has_value()) << size;
    Bytes longer = good;
    longer.push_back(0);
    EXPECT_FALSE(key.public_key().verify(HashAlg::sha256, digest, longer).has_value());
    for (size_t at = 0; at < good.size(); at += 16) {
      Bytes flipped = good;
      flipped[at] ^= 0x40;
      EXPECT_FALSE(key.public_key().verify(HashAlg::sha256, digest, flipped).has_value()) << at;
    }
  }
}

TEST(PrivateKey, RefusesADigestOfTheWrongSize) {
  const PrivateKey& key = shared_key(KeyType::ec_p256);
  EXPECT_EQ(key.sign(HashAlg::sha384, Bytes(32)).error().code, Code::invalid_argument);
  EXPECT_EQ(key.public_key().verify(HashAlg::sha256, Bytes(33), Bytes(70)).error().code, Code::invalid_argument);
  EXPECT_EQ(key.sign(HashAlg{99}, Bytes(32)).error().message, "unsupported hash algorithm");
}

TEST(PrivateKey, Pkcs8SurvivesTheRoundTrip) {
  for (KeyType type : kTypes) {
    const PrivateKey& key = shared_key(type);
    const SecretBytes der = key.pkcs8();
    const auto again = PrivateKey::from_pkcs8(der.view());
    ASSERT_TRUE(again.has_value()) << again.error().message;
    EXPECT_EQ(again->type(), type);
    EXPECT_EQ(again->public_key(), key.public_key());
    EXPECT_EQ(to_bytes(again->pkcs8().view()), to_bytes(der.view()));
    EXPECT_TRUE(key.public_key()
                    .verify(HashAlg::sha256, digest_of(HashAlg::sha256),
                            *again->sign(HashAlg::sha256, digest_of(HashAlg::sha256)))
                    .has_value());
  }
}

TEST(PrivateKey, OpensslReadsOurPkcs8AndFindsNothingWrong) {
  for (KeyType type : kTypes) {
    test::Folder folder;
    const std::string file = folder.pem("key.pem", "PRIVATE KEY", shared_key(type).pkcs8().view());
    const auto checked = test::run_openssl("pkey -check -noout -in " + file);
    EXPECT_EQ(checked.status, 0) << checked.output;
    const auto public_part = test::run_openssl("pkey -pubout -in " + file);
    EXPECT_EQ(public_part.output, pem_encode("PUBLIC KEY", shared_key(type).public_key().spki()));
  }
}

TEST(PrivateKey, TheEcFormIsTheOneGoWrites) {
  // No parameters inside the ECPrivateKey, the public key present: 138 bytes for P-256, 185 for P-384.
  const SecretBytes p256 = shared_key(KeyType::ec_p256).pkcs8();
  EXPECT_EQ(p256.size(), 138u);
  EXPECT_EQ(hex_encode(p256.view().first(36)),
            "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420");
  EXPECT_EQ(hex_encode(p256.view().subspan(68, 6)), "a14403420004");
  EXPECT_EQ(shared_key(KeyType::ec_p384).pkcs8().size(), 185u);
}

TEST(PrivateKey, TakesSec1AndPkcs1AsOpensslWritesThem) {
  for (KeyType type : {KeyType::ec_p256, KeyType::rsa_2048}) {
    test::Folder folder;
    const std::string file = folder.pem("key.pem", "PRIVATE KEY", shared_key(type).pkcs8().view());
    const auto old = test::run_openssl("pkey -traditional -in " + file);
    const auto blocks = pem_decode(old.output);
    ASSERT_TRUE(blocks.has_value() && !blocks->empty()) << old.output;
    EXPECT_NE(blocks->back().label, "PRIVATE KEY");
    const auto key = PrivateKey::from_pkcs8(blocks->back().der);
    ASSERT_TRUE(key.has_value()) << key.error().message;
    EXPECT_EQ(key->public_key(), shared_key(type).public_key());
  }
}

TEST(PrivateKey, RefusesMalformedKeysAndSurvivesTruncation) {
  for (KeyType type : kTypes) {
    const SecretBytes good = shared_key(type).pkcs8();
    for (size_t size = 0; size < good.size(); ++size)
      EXPECT_FALSE(PrivateKey::from_pkcs8(good.view().first(size)).has_value()) << size;
    Bytes longer = to_bytes(good.view());
    longer.push_back(0);
    EXPECT_FALSE(PrivateKey::from_pkcs8(longer).has_value());
  }
  EXPECT_FALSE(PrivateKey::from_pkcs8(Bytes(20000, 0x30)).has_value());
}

TEST(PrivateKey, RefusesAPointThatIsNotTheScalars) {
  Bytes mixed = to_bytes(shared_key(KeyType::ec_p256).pkcs8().view());
  const SecretBytes other = shared_key(KeyType::ec_p256, 1).pkcs8();
  std::copy(other.view().begin() + 73, other.view().end(), mixed.begin() + 73);
  const auto key = PrivateKey::from_pkcs8(mixed);
  ASSERT_FALSE(key.has_value());
  EXPECT_NE(key.error().message.find("do not belong together"), std::string::npos) << key.error().message;
}

TEST(PrivateKey, RefusesOtherCurvesAndSizes) {
  for (const char* arguments :
       {"-algorithm ed25519", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521",
        "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "-algorithm RSA -pkeyopt rsa_keygen_bits:1024"}) {
    const auto made = test::run_openssl(std::string("genpkey -quiet ") + arguments);
    const auto made2 = made.status == 0 ? made : test::run_openssl(std::string("genpkey ") + arguments);
    const auto blocks = pem_decode(made2.output.substr(std::min(made2.output.find("-----BEGIN"), made2.output.size())));
    ASSERT_TRUE(blocks.has_value() && blocks->size() == 1) << made2.output;
    const auto key = PrivateKey::from_pkcs8(blocks->at(0).der);
    ASSERT_FALSE(key.has_value()) << arguments;
    EXPECT_EQ(key.error().code, Code::invalid_argument) << arguments;
  }
}

TEST(PrivateKey, OneKeySignsOnManyThreadsAtOnce) {
  for (KeyType type : {KeyType::ec_p256, KeyType::rsa_2048}) {
    const PrivateKey& key = shared_key(type);
    std::vector<std::thread> threads;
    std::atomic<int> good = 0;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&key, &good] {
        for (int i = 0; i < 5; ++i) {
          const auto signature = key.sign(HashAlg::sha256, digest_of(HashAlg::sha256));
          if (signature && key.public_key().verify(HashAlg::sha256, digest_of(HashAlg::sha256), *signature)) ++good;
        }
      });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(good, 20);
  }
}

TEST(KeyType, NamesGoBothWays) {
  for (KeyType type : {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048, KeyType::rsa_4096})
    EXPECT_EQ(*parse_key_type(key_type_name(type)), type);
  EXPECT_EQ(parse_key_type("ec-p521").error().code, Code::invalid_argument);
  EXPECT_EQ(hash_for(KeyType::ec_p384), HashAlg::sha384);
  EXPECT_EQ(hash_for(KeyType::rsa_4096), HashAlg::sha256);
}

TEST(Hash, MatchesThePublishedVectors) {
  EXPECT_EQ(hex_encode(sha1(as_bytes("abc"))), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(hex_encode(sha256(as_bytes("abc"))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex_encode(hash(HashAlg::sha384, as_bytes("abc"))),
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7");
  EXPECT_EQ(hash(HashAlg::sha512, {}).size(), 64u);
}

TEST(Random, UuidsAreVersion4AndDiffer) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const std::string uuid = i % 2 == 0 ? random_uuid() : ordered_uuid(7);
    ASSERT_EQ(uuid.size(), 36u);
    EXPECT_EQ(uuid[14], '4');
    EXPECT_NE(std::string("89ab").find(uuid[19]), std::string::npos);
    for (size_t at : {8u, 13u, 18u, 23u}) EXPECT_EQ(uuid[at], '-');
    EXPECT_TRUE(seen.insert(uuid).second);
  }
}

TEST(Random, AnOrderedUuidBeginsWithItsOrder) {
  EXPECT_EQ(ordered_uuid(0).substr(0, 14), "00000000-0000-");
  EXPECT_EQ(ordered_uuid(0x1234'5678'9abc).substr(0, 14), "12345678-9abc-");
  EXPECT_EQ(ordered_uuid(UINT64_MAX).substr(0, 14), "ffffffff-ffff-");
}

TEST(Jwk, MembersGoBothWays) {
  for (KeyType type : kTypes) {
    const PublicKey& key = shared_key(type).public_key();
    const auto again = public_key_from_jwk(jwk_members(key));
    ASSERT_TRUE(again.has_value()) << again.error().message;
    EXPECT_EQ(*again, key);
  }
}

TEST(Jwk, RefusesWrongMembers) {
  const JwkMembers good = jwk_members(shared_key(KeyType::ec_p256).public_key());
  const auto changed = [&good](auto change) {
    JwkMembers out = good;
    change(out);
    return public_key_from_jwk(out).error().code;
  };
  EXPECT_EQ(changed([](JwkMembers& m) { m.kty = "OKP"; }), Code::unimplemented);
  EXPECT_EQ(changed([](JwkMembers& m) { m.crv = "P-521"; }), Code::unimplemented);
  EXPECT_EQ(changed([](JwkMembers& m) { m.crv = "P-384"; }), Code::invalid_argument);
  EXPECT_EQ(changed([](JwkMembers& m) { m.x = ""; }), Code::invalid_argument);
  EXPECT_EQ(changed([](JwkMembers& m) { m.x += "="; }), Code::invalid_argument);
  EXPECT_EQ(changed([](JwkMembers& m) { m.y = m.x; }), Code::invalid_argument);
}

}  // namespace
}  // namespace limpet
