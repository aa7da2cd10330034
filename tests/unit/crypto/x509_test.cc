// SPDX-License-Identifier: Apache-2.0
#include "crypto/x509.h"

#include <gtest/gtest.h>

#include "crypto/der.h"
#include "crypto/extensions.h"
#include "crypto/oids.h"
#include "unit/support/mint.h"
#include "unit/support/openssl.h"

namespace limpet {
namespace {

using namespace test;  // NOLINT

constexpr const char* kVectors[] = {"ca.pem", "server_svid.pem", "workload_svid.pem", "workload_dns_svid.pem"};

// Every byte of the certificate up to the signature value.
Bytes tbs_of(BytesView der) { return to_bytes(der::Reader(der::single(der, der::kSequence)->content).next()->whole); }

TEST(ParseCertificate, ReadsWhatSpireIssued) {
  const auto ca = Certificate::parse(vector_der("ca.pem"));
  ASSERT_TRUE(ca.has_value()) << ca.error().message;
  EXPECT_TRUE(ca->ca);
  EXPECT_TRUE(ca->has_basic_constraints);
  EXPECT_EQ(ca->path_len, -1);
  EXPECT_EQ(ca->key_usage, kKeyCertSign | kCrlSign);
  EXPECT_EQ(ca->uris, std::vector<std::string>{"spiffe://example.org"});
  EXPECT_EQ(ca->subject_text(), "SERIALNUMBER=337879095382898900453828962784708228774,O=SPIFFE,C=US");
  EXPECT_EQ(ca->serial_decimal(), "337879095382898900453828962784708228774");
  EXPECT_EQ(hex_encode(ca->serial), "fe3125909fc92d64c38dc2914b0176a6");
  EXPECT_EQ(ca->not_before, 1795312930);
  EXPECT_EQ(ca->not_after, 1795399340);
  EXPECT_TRUE(ca->authority_key_id.empty());
  EXPECT_FALSE(ca->unknown_critical);
  EXPECT_TRUE(ca->verify_signed_by(*ca).has_value());

  const auto svid = Certificate::parse(vector_der("workload_dns_svid.pem"));
  ASSERT_TRUE(svid.has_value()) << svid.error().message;
  EXPECT_FALSE(svid->ca);
  EXPECT_TRUE(svid->has_basic_constraints);
  EXPECT_EQ(svid->key_usage, kDigitalSignature | kKeyEncipherment | kKeyAgreement);
  EXPECT_EQ(svid->uris, std::vector<std::string>{"spiffe://example.org/web"});
  EXPECT_EQ(svid->dns_names, std::vector<std::string>{"web.local"});
  EXPECT_EQ(svid->subject_text(), "CN=web.local,O=SPIRE,C=US");
  EXPECT_EQ(svid->authority_key_id, ca->subject_key_id);
  EXPECT_EQ(svid->issuer, ca->subject);
  EXPECT_TRUE(svid->verify_signed_by(*ca).has_value());
  EXPECT_EQ(ca->verify_signed_by(*svid).error().message, "signature does not match");
}

TEST(ParseCertificate, SurvivesTruncationAtEveryByte) {
  for (const char* name : kVectors) {
    const Bytes der = vector_der(name);
    for (size_t size = 0; size < der.size(); ++size)
      ASSERT_FALSE(Certificate::parse(BytesView(der).first(size)).has_value()) << name << " " << size;
  }
}

TEST(ParseCertificate, SurvivesEveryByteChanged) {
  const Bytes der = vector_der("workload_dns_svid.pem");
  const Certificate ca = *Certificate::parse(vector_der("ca.pem"));
  for (uint8_t mask : {0x01, 0x80, 0xff})
    for (size_t at = 0; at < der.size(); ++at) {
      Bytes changed = der;
      changed[at] ^= mask;
      const auto cert = Certificate::parse(changed);
      if (cert) (void)(cert->subject_text() + cert->serial_decimal());
      // Checking a signature is slow under sanitizers: the signed part is tried at some places only.
      if (cert && at % 32 == 0) {
        EXPECT_FALSE(cert->verify_signed_by(ca).has_value()) << at;
      }
    }
}

TEST(ParseCertificate, TrailingBytesAndOversizeAreErrors) {
  Bytes der = vector_der("ca.pem");
  der.push_back(0);
  EXPECT_EQ(Certificate::parse(der).error().message, "parse certificate: trailing data");
  EXPECT_EQ(Certificate::parse(Bytes(70000, 0x30)).error().message, "parse certificate: larger than 64 KiB");
}

TEST(ParseCertificate, RefusesWhatTheStandardForbids) {
  const PrivateKey& key = shared_key(KeyType::ec_p256);
  const CertificateTemplate base = ca_template("x", key);
  const auto parse_with = [&](const Bytes& extension) {
    return Certificate::parse(
        sign_tbs(with_extension(encode_tbs(base, KeyType::ec_p256, HashAlg::sha256), extension), key));
  };
  EXPECT_NE(parse_with(encode_extension(oids::kKeyUsage, true, der::named_bits(1))).error().message.find("twice"),
            std::string::npos);
  EXPECT_FALSE(parse_with(Bytes{0x04, 0x00}).has_value());

  const auto parse_changed = [&](const Change& change) {
    CertificateTemplate changed = base;
    change(changed);
    return Certificate::parse(sign_tbs(encode_tbs(changed, KeyType::ec_p256, HashAlg::sha256), key));
  };
  EXPECT_NE(parse_changed([](auto& c) { c.serial = Bytes(21, 0x11); }).error().message.find("serial"),
            std::string::npos);
  EXPECT_FALSE(parse_changed([](auto& c) { c.subject = Bytes{0x30, 0x02, 0x05, 0x00}; }).has_value());
  EXPECT_FALSE(parse_changed([](auto& c) { c.uris = {"spiffe://ex\xc3\xa4mple.org"}; }).has_value());
  EXPECT_FALSE(parse_changed([](auto& c) { c.spki = Bytes{0x30, 0x00}; }).has_value());
}

TEST(ParseCertificate, InnerAndOuterAlgorithmMustAgree) {
  const PrivateKey& key = shared_key(KeyType::ec_p256);
  const Bytes tbs = encode_tbs(ca_template("x", key), KeyType::ec_p256, HashAlg::sha256);
  const Bytes sealed =
      seal_certificate(tbs, KeyType::ec_p256, HashAlg::sha384, *key.sign(HashAlg::sha384, hash(HashAlg::sha384, tbs)));
  EXPECT_EQ(Certificate::parse(sealed).error().message,
            "parse certificate: inner and outer signature algorithm differ");
}

TEST(ParseCertificate, FlagsCriticalExtensionsItDoesNotKnow) {
  const Authority root = make_root();
  const Bytes unknown = encode_extension("1.2.3.4", true, Bytes{0x05, 0x00});
  const Bytes harmless = encode_extension("1.2.3.4", false, Bytes{0x05, 0x00});
  const Bytes constraints = encode_extension(oids::kNameConstraints, false, der::sequence({}));
  EXPECT_TRUE(make_leaf(root, {}, unknown).unknown_critical);
  EXPECT_FALSE(make_leaf(root, {}, harmless).unknown_critical);
  EXPECT_TRUE(make_leaf(root, {}, constraints).unknown_critical);
  const Bytes other_name =
      encode_extension(oids::kSubjectAltName, true, der::sequence({der::element(0xa0, Bytes{0x05, 0x00})}));
  EXPECT_TRUE(make_leaf(root, [](auto& c) { c.uris.clear(); }, other_name).unknown_critical);
}

TEST(ParseCertificate, EveryKeyTypeIsReadAndVerified) {
  for (KeyType type : {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048}) {
    const Authority root = make_root("root", type);
    EXPECT_TRUE(root.certificate.verify_signed_by(root.certificate).has_value());
    const Certificate leaf = issue(root, leaf_template(type));
    EXPECT_TRUE(leaf.verify_signed_by(root.certificate).has_value());
    Folder folder;
    const std::string ca = folder.pem("ca.pem", "CERTIFICATE", root.certificate.der);
    const std::string file = folder.pem("leaf.pem", "CERTIFICATE", leaf.der);
    const auto said =
        run_openssl("verify -x509_strict -attime " + std::to_string(kNow) + " -CAfile " + ca + " " + file);
    EXPECT_EQ(said.status, 0) << key_type_name(type) << ": " << said.output;
  }
}

TEST(ParseCertificate, OneMadeByOpensslIsRead) {
  Folder folder;
  const std::string out = folder.text("out.pem", "");
  const auto made = run_openssl(
      "req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -subj '/DC=org/C=US/O=A, \"B\"/OU=u1/OU=u2/CN= #x' -days 2 "
      "-addext 'subjectAltName=URI:spiffe://example.org/x,DNS:a.b,IP:1.2.3.4' -addext certificatePolicies=1.2.3 -out " +
      out);
  ASSERT_EQ(made.status, 0) << made.output;
  const auto blocks = pem_decode(read_file(out));
  ASSERT_TRUE(blocks.has_value());
  const auto cert = Certificate::parse(blocks->at(0).der);
  ASSERT_TRUE(cert.has_value()) << cert.error().message;
  EXPECT_EQ(cert->uris, std::vector<std::string>{"spiffe://example.org/x"});
  EXPECT_EQ(cert->dns_names, std::vector<std::string>{"a.b"});
  EXPECT_TRUE(cert->key.is_rsa());
  EXPECT_TRUE(cert->verify_signed_by(*cert).has_value());
  // As Go prints it: fields in its own order, last first, unknown types at the end and in hex.
  EXPECT_EQ(cert->subject_text(), "CN=\\ #x,OU=u1+OU=u2,O=A\\, \\\"B\\\",C=US,0.9.2342.19200300.100.1.25=#16036f7267");
}

TEST(SerialDecimal, TurnsBigNumbersIntoText) {
  const struct {
    const char* hex;
    const char* decimal;
  } kCases[] = {{"", "0"},
                {"01", "1"},
                {"0a", "10"},
                {"ff", "255"},
                {"0100", "256"},
                {"0de0b6b3a7640000", "1000000000000000000"},
                {"ffffffffffffffffffffffffffffffff", "340282366920938463463374607431768211455"}};
  for (const auto& c : kCases) {
    Certificate cert;
    cert.serial = *hex_decode(c.hex);
    EXPECT_EQ(cert.serial_decimal(), c.decimal) << c.hex;
  }
}

TEST(BuildCertificate, HasTheExtensionsOfSpiresInTheirOrder) {
  for (const char* name : kVectors) {
    const Bytes der = vector_der(name);
    const Certificate model = *Certificate::parse(der);
    CertificateTemplate cert;
    cert.serial = model.serial;
    cert.subject = model.subject;
    cert.issuer = model.issuer;
    cert.not_before = model.not_before;
    cert.not_after = model.not_after;
    cert.spki = model.key.spki();
    cert.ca = model.ca;
    cert.key_usage = model.key_usage;
    cert.server_and_client_auth = !model.ca;
    cert.uris = model.uris;
    cert.dns_names = model.dns_names;
    cert.subject_key_id = model.subject_key_id;
    cert.authority_key_id = model.authority_key_id;
    const Bytes tbs = encode_tbs(cert, KeyType::ec_p256, HashAlg::sha256);
    EXPECT_EQ(hex_encode(tbs), hex_encode(tbs_of(der))) << name;  // byte for byte what SPIRE signed
  }
}

TEST(BuildCertificate, NamesAreEncodedAsSpireEncodesThem) {
  const Certificate ca = *Certificate::parse(vector_der("ca.pem"));
  EXPECT_EQ(encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIFFE"}, {kOidSerialNumber, ca.serial_decimal()}}),
            ca.subject);
  EXPECT_EQ(hex_encode(encode_name({})), "3000");
  // '*' and '&' are not in PrintableString, nor is anything beyond ASCII
  EXPECT_EQ(hex_encode(encode_name({{kOidCommonName, "*"}})), "300c310a300806035504030c012a");
  EXPECT_EQ(hex_encode(encode_name({{kOidCommonName, "\xc3\xa4"}})), "300d310b300906035504030c02c3a4");
}

TEST(BuildCertificate, AlternativeNamesAreCriticalWithoutASubject) {
  const Authority root = make_root();
  const auto text_of = [&root](const Change& change) {
    Folder folder;
    return run_openssl("x509 -noout -text -in " + folder.pem("x.pem", "CERTIFICATE", make_leaf(root, change).der))
        .output;
  };
  EXPECT_NE(text_of([](auto& c) { c.subject = encode_name({}); }).find("Subject Alternative Name: critical"),
            std::string::npos);
  EXPECT_EQ(text_of({}).find("Subject Alternative Name: critical"), std::string::npos);
  EXPECT_NE(text_of({}).find("Basic Constraints: critical\n                CA:FALSE"), std::string::npos);
}

TEST(BuildCertificate, SerialsArePositiveAndDiffer) {
  for (int i = 0; i < 200; ++i) {
    const Bytes serial = random_serial();
    ASSERT_FALSE(serial.empty());
    ASSERT_LE(serial.size(), 16u);
    EXPECT_NE(serial[0], 0);
    EXPECT_NE(serial, random_serial());
  }
}

TEST(ParseCertificates, NamesTheIndexOfTheBadOne) {
  Bytes all = vector_der("server_svid.pem");
  append(all, vector_der("ca.pem"));
  EXPECT_EQ(parse_certificates(all)->size(), 2u);
  EXPECT_TRUE(parse_certificates({})->empty());
  all.pop_back();
  EXPECT_TRUE(parse_certificates(all).error().message.starts_with("certificate 1: "))
      << parse_certificates(all).error().message;
  EXPECT_EQ(parse_chain({vector_der("ca.pem"), Bytes{1}}).error().message,
            "certificate 1: parse certificate: malformed DER");
  EXPECT_EQ(parse_chain(std::vector<Bytes>(17, vector_der("ca.pem"))).error().message,
            "certificate 16: the chain is too long");
}

TEST(Csr, OnesWeMakeAreGoodForOpenssl) {
  for (KeyType type : {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048}) {
    CsrTemplate csr;
    csr.subject = encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIRE"}});
    csr.uris = {"spiffe://example.org/web"};
    csr.dns_names = {"web.local"};
    const Bytes der = *make_csr(csr, shared_key(type));
    const auto parsed = Csr::parse(der);
    ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
    EXPECT_TRUE(parsed->verify().has_value());
    EXPECT_EQ(parsed->uris, csr.uris);
    EXPECT_EQ(parsed->dns_names, csr.dns_names);
    EXPECT_EQ(parsed->subject, csr.subject);
    EXPECT_EQ(parsed->key, shared_key(type).public_key());
    Folder folder;
    const auto said = run_openssl("req -verify -noout -text -in " + folder.pem("csr.pem", "CERTIFICATE REQUEST", der));
    EXPECT_EQ(said.status, 0) << said.output;
    EXPECT_NE(said.output.find("DNS:web.local, URI:spiffe://example.org/web"), std::string::npos) << said.output;
  }
}

TEST(Csr, TheAgentsHasNoExtensions) {
  CsrTemplate csr;
  csr.subject = encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIRE"}});
  const Bytes der = *make_csr(csr, shared_key(KeyType::ec_p256));
  const auto parsed = Csr::parse(der);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_TRUE(parsed->uris.empty());
  // An empty set of attributes is written, as Go does.
  EXPECT_EQ(hex_encode(BytesView(parsed->tbs).last(2)), "a000");
}

TEST(Csr, OpensslsAreRead) {
  Folder folder;
  const std::string key = folder.pem("key.pem", "PRIVATE KEY", shared_key(KeyType::rsa_2048).pkcs8().view());
  for (const char* digest : {"-sha256", "-sha384", "-sha512"}) {
    const auto made =
        run_openssl(std::string("req -new -key ") + key + " -subj / -addext subjectAltName=URI:spiffe://a/b " + digest);
    const auto blocks = pem_decode(made.output);
    ASSERT_TRUE(blocks.has_value() && blocks->size() == 1) << made.output;
    const auto csr = Csr::parse(blocks->at(0).der);
    ASSERT_TRUE(csr.has_value()) << csr.error().message;
    EXPECT_TRUE(csr->verify().has_value()) << digest;
    EXPECT_EQ(hex_encode(csr->subject), "3000");
  }
}

TEST(Csr, RefusesWhatIsMalformedOrNotSigned) {
  CsrTemplate csr;
  csr.subject = encode_name({{kOidCommonName, "x"}});
  csr.uris = {"spiffe://example.org/x"};
  const Bytes good = *make_csr(csr, shared_key(KeyType::ec_p256));
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(Csr::parse(BytesView(good).first(size)).has_value()) << size;
  Bytes trailing = good;
  trailing.push_back(0);
  EXPECT_EQ(Csr::parse(trailing).error().message, "parse CSR: trailing data");
  EXPECT_EQ(Csr::parse(Bytes(20000)).error().message, "parse CSR: larger than 16 KiB");

  csr.spki = shared_key(KeyType::ec_p256, 1).public_key().spki();  // somebody else's key
  const auto stolen = Csr::parse(*make_csr(csr, shared_key(KeyType::ec_p256)));
  ASSERT_TRUE(stolen.has_value());
  EXPECT_EQ(stolen->verify().error().message, "CSR: signature does not match");

  const Bytes info = encode_csr_info(csr);
  const Bytes odd = der::sequence({info, der::sequence({der::oid("1.3.101.112")}), der::bit_string(Bytes(64))});
  EXPECT_EQ(Csr::parse(odd)->verify().error().message, "CSR: unsupported signature algorithm");
}

}  // namespace
}  // namespace limpet
