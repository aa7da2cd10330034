// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/structures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "crypto/extensions.h"
#include "kit/go_json.h"
#include "kit/names.h"
#include "kit_tpm/ek_certificate.h"
#include "soft_tpm.h"
#include "support/mint.h"

namespace limpet::tpm_wire {
namespace {

using namespace test;

Bytes vector_part(const std::string& file, std::initializer_list<const char*> path) {
  const std::string text = read_file(std::string(TEST_VECTORS) + "/tpm/" + file);
  const auto document = kit::GoJson::parse(as_bytes(text));
  yyjson_val* at = document->root();
  const std::vector<const char*> names(path);
  for (size_t i = 0; i + 1 < names.size(); ++i) at = *kit::GoJson::object(at, names[i]);
  return *kit::GoJson::bytes(at, names.back());
}

template <class T>
std::string said(const Result<T>& result) {
  return result ? "ok" : result.error().message;
}

// Every prefix and every longer input is refused, and none is read beyond its end.
template <class T>
void refuses_every_other_length(const Bytes& good) {
  for (size_t size = 0; size < good.size(); ++size) {
    const Bytes cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(T::parse(cut)) << size;
  }
  Bytes longer = good;
  longer.push_back(0);
  EXPECT_FALSE(T::parse(longer));
}

TEST(TpmStructures, WhatATpmMadeForTheReferencePluginsIsRead) {
  const Bytes ak = vector_part("pubhash_payload.json", {"AK", "Public"});
  const auto key = Public::parse(ak);
  ASSERT_EQ(said(key), "ok");
  EXPECT_EQ(key->type, kAlgRsa);
  EXPECT_EQ(key->key.bits(), 2048u);
  EXPECT_EQ(key->attributes, kAkAttributes);
  const Bytes attestation = vector_part("pubhash_payload.json", {"AK", "CreateAttestation"});
  const auto creation = Attest::parse(attestation);
  ASSERT_EQ(said(creation), "ok");
  EXPECT_EQ(creation->type, kAttestCreation);
  EXPECT_EQ(creation->name, key->name());
  const Bytes data = vector_part("pubhash_payload.json", {"AK", "CreateData"});
  EXPECT_EQ(creation->creation_hash, sha256(data));
  const auto parents = CreationData::parse(data);
  ASSERT_EQ(said(parents), "ok");
  EXPECT_TRUE(parents->under_endorsement());  // go-attestation makes its storage key there
  const Bytes signature = vector_part("pubhash_payload.json", {"AK", "CreateSignature"});
  const auto parsed = Signature::parse(signature);
  ASSERT_EQ(said(parsed), "ok");
  EXPECT_EQ(said(parsed->verify(key->key, attestation)), "ok");
  Bytes other = attestation;
  other.back() ^= 1;
  EXPECT_EQ(said(parsed->verify(key->key, other)), "signature does not match");

  const auto ek = Public::parse(vector_part("devid_payload.json", {"EKPub"}));
  ASSERT_EQ(said(ek), "ok");
  EXPECT_EQ(ek->symmetric_bits, 128);
  EXPECT_EQ(said(Protector::of(*ek)), "ok");
  const auto devid = Public::parse(vector_part("devid_payload.json", {"DevIDPub"}));
  const Bytes certify = vector_part("devid_payload.json", {"CertifiedDevID"});
  const auto certified = Attest::parse(certify);
  ASSERT_EQ(said(certified), "ok");
  EXPECT_EQ(certified->type, kAttestCertify);
  EXPECT_EQ(certified->name, devid->name());

  refuses_every_other_length<Public>(ak);
  refuses_every_other_length<Attest>(attestation);
  refuses_every_other_length<Attest>(certify);
  refuses_every_other_length<CreationData>(data);
  refuses_every_other_length<Signature>(signature);
}

TEST(TpmStructures, KeysThatNoTpmOfOursMakesAreRefused) {
  const PublicKey& rsa = shared_key(KeyType::rsa_2048, 1).public_key();
  const PublicKey& ecc = shared_key(KeyType::ec_p256, 1).public_key();
  const Bytes good_rsa = public_area(rsa, kAkAttributes);
  const Bytes good_ecc = public_area(ecc, kAkAttributes);
  EXPECT_EQ(said(Public::parse(good_rsa)), "ok");
  EXPECT_EQ(said(Public::parse(good_ecc)), "ok");
  EXPECT_EQ(Public::parse(good_ecc)->key, ecc);
  EXPECT_EQ(said(Public::parse(public_area(shared_key(KeyType::ec_p384, 1).public_key(), kEkAttributes))), "ok");
  struct Case {
    const Bytes* area;
    size_t at;
    uint8_t value;
    const char* text;
  };
  const Case cases[] = {
      {&good_rsa, 1, 0x08, "public area: object type 0x0008 is not a public key"},
      {&good_rsa, 3, 0x04, "public area: hash algorithm 0x0004 is not supported"},
      {&good_rsa, 8, 0xff, "public area: a field of 65280 bytes; at most 64"},
      {&good_rsa, 11, 0x06, "public area: only AES-128-CFB and AES-256-CFB are supported for children"},
      {&good_rsa, 13, 0x16, "public area: scheme 0x0016 is not supported"},
      {&good_rsa, 16, 0x10, "public area: the modulus has another size than said"},
      {&good_ecc, 17, 0x05, "public area: curve 0x0005 is not supported"},
      {&good_ecc, 19, 0x20, "public area: a key derivation scheme is not supported"},
      {&good_ecc, 30, static_cast<uint8_t>(~good_ecc[30]),
       "public area: public key: elliptic curve point is not on the curve"},
  };
  for (const Case& one : cases) {
    Bytes area = *one.area;
    ASSERT_NE(area[one.at], one.value);
    area[one.at] = one.value;
    EXPECT_EQ(said(Public::parse(area)), one.text);
  }
  refuses_every_other_length<Public>(good_ecc);
}

TEST(TpmStructures, OnlyWhatATpmMadeIsAnAttestation) {
  AttestParts parts;
  parts.body = named_body(name_of({}), sha256({}));
  EXPECT_EQ(said(Attest::parse(attest(parts))), "ok");
  parts.magic = 0xff544348;
  EXPECT_EQ(said(Attest::parse(attest(parts))), "attestation: not made by a TPM (magic number)");
  parts.magic = 0xff544347;
  parts.type = 0x8014;
  EXPECT_EQ(said(Attest::parse(attest(parts))), "attestation: type 0x8014 is not supported");
  parts.type = kAttestQuote;
  parts.body = Bytes{0, 0, 0, 17};
  EXPECT_EQ(said(Attest::parse(attest(parts))), "attestation: more than 16 PCR selections");
  parts.body = Bytes{0, 0, 0, 1, 0, 0x0b, 5, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(said(Attest::parse(attest(parts))), "attestation: a selection of more than 32 PCRs");
}

TEST(TpmStructures, AKeyHangsUnderTheEndorsementHierarchyOnlyIfItsParentIsAPrimaryOfIt) {
  EXPECT_TRUE(CreationData::parse(creation_data())->under_endorsement());
  EXPECT_FALSE(CreationData::parse(creation_data(0x40000001))->under_endorsement());
}

// Computed with another program's HMAC and SHA.
TEST(TpmCredential, KeyDerivationsGiveKnownAnswers) {
  Bytes counting(32);
  for (size_t i = 0; i < counting.size(); ++i) counting[i] = static_cast<uint8_t>(i);
  Bytes name = {0x00, 0x0b};
  append(name, Bytes(32, 0xaa));
  EXPECT_EQ(hex_encode(kdf_a(HashAlg::sha256, BytesView(counting).first(16), "STORAGE", name, {}, 16)),
            "1c4a6b959fb0642aba36090176cf319e");
  EXPECT_EQ(hex_encode(kdf_a(HashAlg::sha384, counting, "INTEGRITY", {}, {}, 48)),
            "ce5c1941c2411f7c12d0ad0dea97f8d18968b11c9fa9b006da60acc8fa7015ccffedc78fb26af4019b59583ab55d4698");
  EXPECT_EQ(hex_encode(kdf_e(HashAlg::sha256, counting, "IDENTITY", Bytes(32, 1), Bytes(32, 2), 32)),
            "46c1a8b985095523623fbee1f5d4b3df184a6991e5706b9bbee430d76b9b5909");
}

TEST(TpmCredential, OnlyTheEndorsementKeyTogetherWithTheNamedKeyGivesTheSecretBack) {
  const Bytes secret(32, 0x42);
  const Bytes name = name_of(as_bytes("a key"));
  for (const KeyType type : {KeyType::rsa_2048, KeyType::ec_p256, KeyType::ec_p384}) {
    const PrivateKey& ek = shared_key(type, 2);
    const auto kind = Protector::of(ek.public_key());
    ASSERT_EQ(said(kind), "ok");
    const auto credential = make_credential(*kind, name, secret);
    ASSERT_EQ(said(credential), "ok");
    EXPECT_EQ(activate(*kind, ek, name, *credential), secret) << key_type_name(type);
    EXPECT_TRUE(activate(*kind, ek, name_of(as_bytes("another key")), *credential).empty());
    EXPECT_TRUE(activate(*kind, shared_key(type, 3), name, *credential).empty());
    EXPECT_EQ(said(make_credential(*kind, name, Bytes(65))), "the secret is longer than the hash");
  }
}

// Where only the key is known, its size says by which of the TCG's templates it was made (EK Credential Profile, B.3
// and B.4). The TPM takes name algorithm and cipher of the key for everything (Part 1, 24 and B.10.4).
TEST(TpmCredential, TheTemplateFollowsFromTheKey) {
  const auto rsa = [](size_t bits) {
    Bytes modulus(bits / 8, 0x5a);
    modulus.front() = 0xc3;
    modulus.back() = 0x01;
    const Bytes numbers = der::sequence({der::unsigned_integer(modulus), der::unsigned_integer(Bytes{1, 0, 1})});
    Bytes string = {0};
    append(string, numbers);
    const Bytes alg = der::sequence({der::oid("1.2.840.113549.1.1.1"), der::element(der::kNull, Bytes())});
    return *PublicKey::from_spki(der::sequence({alg, der::element(der::kBitString, string)}));
  };
  const auto kind = [](const PublicKey& key) {
    const auto found = Protector::of(key);
    return found ? std::to_string(hash_bytes(found->hash) * 8) + "/" + std::to_string(found->aes_bits) : said(found);
  };
  EXPECT_EQ(kind(rsa(2048)), "256/128");
  EXPECT_EQ(kind(rsa(3072)), "384/256");
  EXPECT_EQ(kind(rsa(4096)), "384/256");
  EXPECT_EQ(kind(rsa(4104)), "the endorsement key has 4104 bits; at most 4096 are taken");
  EXPECT_EQ(kind(shared_key(KeyType::ec_p256, 2).public_key()), "256/128");
  EXPECT_EQ(kind(shared_key(KeyType::ec_p384, 2).public_key()), "384/256");
  const PrivateKey& ek = shared_key(KeyType::rsa_4096, 2);
  const Bytes name = name_of(as_bytes("a key"));
  const auto credential = make_credential(*Protector::of(ek.public_key()), name, Bytes(32, 0x42));
  ASSERT_EQ(said(credential), "ok");
  EXPECT_EQ(activate({ek.public_key(), HashAlg::sha384, 256}, ek, name, *credential), Bytes(32, 0x42));
}

TEST(TpmCredential, OnlyStorageKeysAreEndorsementKeys) {
  const PublicKey& key = shared_key(KeyType::rsa_2048, 1).public_key();
  EXPECT_EQ(said(Protector::of(*Public::parse(public_area(key, kEkAttributes)))), "ok");
  EXPECT_EQ(said(Protector::of(*Public::parse(public_area(key, kAkAttributes)))),
            "the endorsement key is not a storage key (restricted, decrypt, AES)");
}

// ---- certificates ----

Bytes attribute(const char* oid, std::string_view text) {
  return der::element(der::kSet, der::sequence({der::oid(oid), der::element(der::kUtf8String, as_bytes(text))}));
}
Bytes alt_name(std::initializer_list<BytesView> attributes, bool critical = true) {
  const Bytes name = der::element(der::kSequence, attributes);
  const Bytes names = der::sequence({der::element(0xa4, name)});
  const Bytes wrapped = der::element(der::kOctetString, names);
  if (!critical) return der::sequence({der::oid("2.5.29.17"), wrapped});
  return der::sequence({der::oid("2.5.29.17"), der::element(der::kBoolean, Bytes{0xff}), wrapped});
}
const Bytes kMaker = attribute("2.23.133.2.1", "id:49424D00");
const Bytes kKind = attribute("2.23.133.2.2", "swtpm");
const Bytes kRelease = attribute("2.23.133.2.3", "id:20191023");

CertificateTemplate ek_template() {
  CertificateTemplate out = leaf_template(KeyType::rsa_2048);
  out.subject = encode_name({});
  out.uris.clear();
  out.key_usage = kKeyEncipherment;
  out.server_and_client_auth = false;
  return out;
}

TEST(EkCertificate, TheStrictProfileIsKept) {
  const Authority maker = make_root("maker");
  const Bytes good = alt_name({kMaker, kKind, kRelease});
  const auto model = check_ek_profile(issue(maker, ek_template(), {}, good));
  ASSERT_EQ(said(model), "ok");
  EXPECT_EQ(model->manufacturer + model->model + model->version, "id:49424D00swtpmid:20191023");
  struct Case {
    Bytes extension;
    Change change;
    const char* text;
  };
  const Bytes unknown = attribute("2.5.4.3", "x");
  const Case cases[] = {
      {{}, {}, "no subject alternative name"},
      {alt_name({kMaker, kKind, kRelease}, false),
       {},
       "with an empty subject the subject alternative name must be critical"},
      {alt_name({kMaker, kKind}), {}, "subject alternative name: manufacturer, model and version must all be there"},
      {alt_name({kMaker, kMaker, kKind, kRelease}),
       {},
       "subject alternative name: the manufacturer stands twice in the subject alternative name"},
      {alt_name({kMaker, kKind, kRelease, unknown}),
       {},
       "subject alternative name: attribute 2.5.4.3 does not belong into the subject alternative name"},
      {alt_name({kMaker, attribute("2.23.133.2.2", ""), kRelease}),
       {},
       "subject alternative name: the model is empty or not plain text"},
      {alt_name({kMaker, attribute("2.23.133.2.2", "a\nb"), kRelease}),
       {},
       "subject alternative name: the model is empty or not plain text"},
      {good, [](CertificateTemplate& cert) { cert.key_usage = kDigitalSignature; },
       "key usage without keyEncipherment"},
      {good, [](CertificateTemplate& cert) { cert.ca = true; }, "it is an authority's certificate"},
      {good, [](CertificateTemplate& cert) { cert.authority_key_id.clear(); }, "no authority key identifier"},
      {good, [](CertificateTemplate& cert) { cert.spki = shared_key(KeyType::ec_p256, 1).public_key().spki(); },
       "key usage without keyAgreement"},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(said(check_ek_profile(issue(maker, ek_template(), one.change, one.extension))),
              std::string("endorsement key certificate: ") + one.text);
  }
}

struct RawExtension {
  std::string oid;
  bool critical;
  Bytes value;
};
// With other extensions. The signature then fits no more, at which the profile does not look.
Certificate with_extensions(const Certificate& good, const std::function<void(std::vector<RawExtension>&)>& change) {
  std::vector<RawExtension> all;
  EXPECT_TRUE(
      read_extensions(*kit::extensions_of(good.der), [&](const std::string& oid, bool critical, BytesView value) {
        all.push_back({oid, critical, to_bytes(value)});
        return Result<void>();
      }));
  change(all);
  Bytes list;
  for (const RawExtension& one : all) append(list, encode_extension(one.oid, one.critical, one.value));
  der::Reader outer(der::single(good.der, der::kSequence)->content);
  Bytes tbs;
  for (der::Reader fields(outer.expect(der::kSequence)->content); !fields.empty();) {
    const der::Element field = *fields.next();
    const bool extensions = field.tag == 0xa3;
    append(tbs, extensions ? der::element(0xa3, der::element(der::kSequence, list)) : to_bytes(field.whole));
  }
  Bytes body = der::element(der::kSequence, tbs);
  while (!outer.empty()) append(body, outer.next()->whole);
  auto out = Certificate::parse(der::element(der::kSequence, body));
  EXPECT_TRUE(out) << out.error().message;
  return std::move(*out);
}

TEST(EkCertificate, EachRuleOfTheProfileOnExtensionsIsKept) {
  const Authority maker = make_root("maker");
  const Bytes names = alt_name({kMaker, kKind, kRelease});
  const Certificate good = issue(maker, ek_template(), {}, names);
  using All = std::vector<RawExtension>;
  const auto flag = [](std::string_view oid, bool critical) {
    return [oid, critical](All& all) {
      const auto place = std::ranges::find(all, oid, &RawExtension::oid);
      if (place != all.end())
        place->critical = critical;
      else
        all.push_back({std::string(oid), critical, der::sequence({})});
    };
  };
  const auto without = [](std::string_view oid) {
    return [oid](All& all) { std::erase_if(all, [oid](const RawExtension& one) { return one.oid == oid; }); };
  };
  const auto attributes = [](const char* oid) {
    return [oid](All& all) {
      all.push_back(
          {"2.5.29.9", false, der::sequence({der::sequence({der::oid(oid), der::element(der::kSet, Bytes())})})});
    };
  };
  const auto verdict = [&good](const std::function<void(All&)>& change) {
    return said(check_ek_profile(with_extensions(good, change)));
  };
  const std::string start = "endorsement key certificate: ";
  EXPECT_EQ(verdict([](All&) {}), "ok");
  EXPECT_EQ(verdict([](All& all) { all.clear(); }), start + "no extensions: not an X.509 version 3 certificate");
  EXPECT_EQ(verdict(flag("2.5.29.19", false)), start + "basic constraints must be there and critical");
  EXPECT_EQ(verdict(without("2.5.29.19")), start + "basic constraints must be there and critical");
  EXPECT_EQ(verdict(flag("2.5.29.15", false)), start + "key usage must be there and critical");
  EXPECT_EQ(verdict(without("2.5.29.15")), start + "key usage must be there and critical");
  for (const char* oid : {"2.5.29.35", "2.5.29.37", "2.5.29.14", "1.3.6.1.5.5.7.1.1", "2.5.29.31"})
    EXPECT_EQ(verdict(flag(oid, true)), start + "extension " + oid + " must not be critical");
  EXPECT_EQ(verdict(attributes("2.23.133.2.16")), "ok");
  EXPECT_EQ(verdict(attributes("2.23.133.2.17")), start + "subject directory attributes without the TPM specification");

  const auto field = [&](const Change& change) {
    return said(check_ek_profile(issue(maker, ek_template(), change, names)));
  };
  EXPECT_EQ(field([](CertificateTemplate& cert) { cert.serial = {0}; }), start + "the serial number is 0");
  EXPECT_EQ(field([](CertificateTemplate& cert) { cert.issuer = encode_name({}); }), start + "the issuer is empty");
}

TEST(EkCertificate, OnlyATrustedAuthorityIsBelieved) {
  const Authority maker = make_root("maker", KeyType::ec_p256, 0);
  const Authority impostor = make_root("maker", KeyType::ec_p256, 1);
  const Authority other = make_root("other", KeyType::ec_p256, 0);
  const Bytes name = alt_name({kMaker, kKind, kRelease});
  const Certificate good = issue(maker, ek_template(), {}, name);
  const auto verdict = [&](const Certificate& ek, const Authority& trusted, int64_t now = kNow) {
    const auto result = verify_ek_issuer(ek, std::vector<Certificate>{trusted.certificate}, now);
    return result ? "ok" : result.error().message;
  };
  const std::string prefix = "endorsement key certificate of : ";
  EXPECT_EQ(verdict(good, maker), "ok");
  EXPECT_EQ(verdict(good, impostor), prefix + "signed by an unknown authority");
  EXPECT_EQ(verdict(good, other), prefix + "signed by an unknown authority");
  EXPECT_EQ(said(verify_ek_issuer(good, {}, kNow)), prefix + "signed by an unknown authority");
  EXPECT_EQ(verdict(good, maker, good.not_after + 1), prefix + "it has expired or is not yet valid");
  EXPECT_EQ(verdict(good, maker, good.not_before - 1), prefix + "it has expired or is not yet valid");
  const auto no_authority = [](CertificateTemplate& cert) { cert.ca = false; };
  EXPECT_EQ(verdict(good, make_root("maker", KeyType::ec_p256, 0, no_authority)),
            prefix + "signed by an unknown authority");
  const Bytes strange = der::sequence(
      {der::oid("1.2.3.4"), der::element(der::kBoolean, Bytes{0xff}), der::element(der::kOctetString, Bytes{5, 0})});
  EXPECT_EQ(verdict(issue(maker, ek_template(), {}, strange), maker), prefix + "unhandled critical extension");
}

TEST(EkCertificate, TheVectorsCertificateIsVerifiedWithoutTheProfile) {
  const auto certificate = Certificate::parse(vector_part("devid_payload.json", {"EKCert"}));
  ASSERT_EQ(said(certificate), "ok");
  EXPECT_EQ(certificate->key, Public::parse(vector_part("devid_payload.json", {"EKPub"}))->key);
  EXPECT_FALSE(check_ek_profile(*certificate));
}

}  // namespace
}  // namespace limpet::tpm_wire
