// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "crypto/extensions.h"
#include "crypto/oids.h"
#include "spiffe/bundle.h"
#include "unit/support/mint.h"
#include "unit/support/openssl.h"

namespace limpet {
namespace {

using namespace test;  // NOLINT

BundleSet bundles_with(std::vector<Certificate> roots, const char* trust_domain = "example.org") {
  BundleSet out;
  out.set(*TrustDomain::parse(trust_domain), std::move(roots));
  return out;
}

std::string reason(const Result<SpiffeId>& result) {
  if (result) return "accepted";
  EXPECT_EQ(result.error().code, Code::unauthenticated);
  EXPECT_TRUE(result.error().message.starts_with("x509svid: ")) << result.error().message;
  return result.error().message;
}

constexpr const char* kUnknown =
    "x509svid: could not verify leaf certificate: x509: certificate signed by unknown authority";

TEST(VerifyChain, RefusesLeavesThatBreakTheRules) {
  const Authority root = make_root();
  const BundleSet bundles = bundles_with({root.certificate});
  const Bytes critical = encode_extension("1.2.3.4", true, Bytes{0x05, 0x00});
  const Bytes constraints = encode_extension(oids::kNameConstraints, true, der::sequence({}));
  const struct {
    const char* what;
    Change change;
    Bytes extension;
    std::string says;
  } kCases[] = {
      {"no URI", [](auto& c) { c.uris.clear(); }, {}, "could not get leaf SPIFFE ID: certificate contains no URI SAN"},
      {"DNS names only",
       [](auto& c) {
         c.uris.clear();
         c.dns_names = {"a.b"};
       },
       {},
       "contains no URI SAN"},
      {"two URIs", [](auto& c) { c.uris.push_back("spiffe://example.org/b"); }, {}, "contains more than one URI SAN"},
      {"two URIs, one foreign",
       [](auto& c) { c.uris.push_back("https://example.org/b"); },
       {},
       "contains more than one URI SAN"},
      {"no SPIFFE ID", [](auto& c) { c.uris = {"https://example.org/web"}; }, {}, "scheme is missing or invalid"},
      {"upper-case trust domain",
       [](auto& c) { c.uris = {"spiffe://Example.org/web"}; },
       {},
       "trust domain characters"},
      {"empty path", [](auto& c) { c.uris = {"spiffe://example.org"}; }, {}, "path is empty"},
      {"trailing slash", [](auto& c) { c.uris = {"spiffe://example.org/a/"}; }, {}, "trailing slash"},
      {"percent-encoding", [](auto& c) { c.uris = {"spiffe://example.org/%61"}; }, {}, "path segment characters"},
      {"2049 bytes",
       [](auto& c) { c.uris = {"spiffe://example.org/" + std::string(2028, 'a')}; },
       {},
       "longer than 2048"},
      {"a CA", [](auto& c) { c.ca = true; }, {}, "leaf certificate with CA flag set to true"},
      {"keyCertSign", [](auto& c) { c.key_usage |= kKeyCertSign; }, {}, "leaf certificate with KeyCertSign key usage"},
      {"cRLSign", [](auto& c) { c.key_usage |= kCrlSign; }, {}, "leaf certificate with KeyCrlSign key usage"},
      {"foreign trust domain",
       [](auto& c) { c.uris = {"spiffe://other.org/web"}; },
       {},
       "could not get X509 bundle: x509bundle: no X.509 bundle for trust domain \"other.org\""},
      {"expired",
       [](auto& c) { c.not_after = kNow - 1; },
       {},
       "certificate has expired or is not yet valid: current time 2026-11-22T02:00:35Z is after 2026-11-22T02:00:34Z"},
      {"not yet valid", [](auto& c) { c.not_before = kNow + 1; }, {}, "is before 2026-11-22T02:00:36Z"},
      {"unknown critical extension", {}, critical, "unhandled critical extension"},
      {"name constraints", {}, constraints, "unhandled critical extension"},
      {"wrong issuer name",
       [](auto& c) { c.issuer = common_name("somebody"); },
       {},
       "certificate signed by unknown authority"},
      {"wrong authority key id",
       [](auto& c) { c.authority_key_id = Bytes(20, 1); },
       {},
       "certificate signed by unknown authority"},
  };
  for (const auto& c : kCases) {
    const std::string said = reason(verify_chain({make_leaf(root, c.change, c.extension)}, bundles, kNow));
    EXPECT_NE(said.find(c.says), std::string::npos) << c.what << ": " << said;
  }
  EXPECT_EQ(reason(verify_chain({}, bundles, kNow)), "x509svid: empty certificates chain");
  EXPECT_EQ(reason(verify_chain(std::vector<Certificate>(17, make_leaf(root)), bundles, kNow)),
            "x509svid: more than 16 certificates in the chain");
}

TEST(VerifyChain, TakesLeavesAsLenientlyAsGoSpiffe) {
  const Authority root = make_root();
  const BundleSet bundles = bundles_with({root.certificate});
  const Change kCases[] = {
      {},
      [](auto& c) { c.dns_names = {"a.b"}; },
      [](auto& c) { c.key_usage = 0; },
      [](auto& c) { c.key_usage = kKeyAgreement; },
      [](auto& c) { c.server_and_client_auth = false; },
      [](auto& c) { c.subject = encode_name({}); },
      [](auto& c) { c.uris = {"spiffe://example.org/" + std::string(2027, 'a')}; },
      [](auto& c) { c.not_after = kNow; },
      [](auto& c) { c.not_before = kNow; },
      [](auto& c) { c.not_after = 253402300799; },
      [](auto& c) { c.authority_key_id.clear(); },
  };
  for (const Change& change : kCases) {
    const Certificate leaf = make_leaf(root, change);
    const auto id = verify_chain({leaf}, bundles, kNow);
    ASSERT_TRUE(id.has_value()) << id.error().message;
    EXPECT_EQ(id->text(), leaf.uris[0]);
  }
}

TEST(VerifyChain, EveryKeyTypeCanSignAndBeSigned) {
  for (KeyType type : {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048}) {
    const Authority root = make_root("root", type);
    EXPECT_EQ(reason(verify_chain({issue(root, leaf_template(type))}, bundles_with({root.certificate}), kNow)),
              "accepted");
  }
}

TEST(VerifyChain, AForgedSignatureIsAnUnknownAuthority) {
  const Authority root = make_root("root", KeyType::ec_p256, 0);
  const Authority impostor =
      make_root("root", KeyType::ec_p256, 1, [&root](auto& c) { c.subject_key_id = root.certificate.subject_key_id; });
  EXPECT_EQ(reason(verify_chain({make_leaf(impostor)}, bundles_with({root.certificate}), kNow)), kUnknown);
  // ... and stands behind the real one without harm
  EXPECT_EQ(reason(verify_chain({make_leaf(root)}, bundles_with({impostor.certificate, root.certificate}), kNow)),
            "accepted");
  // A root that the peer brings along is not a root.
  EXPECT_EQ(reason(verify_chain({make_leaf(impostor), impostor.certificate}, bundles_with({root.certificate}), kNow)),
            kUnknown);
}

TEST(VerifyChain, RootsOfAnotherTrustDomainDoNotCount) {
  const Authority ours = make_root("ours", KeyType::ec_p256, 0);
  const Authority theirs = make_root("theirs", KeyType::ec_p256, 1);
  BundleSet bundles = bundles_with({ours.certificate});
  bundles.set(*TrustDomain::parse("other.org"), {theirs.certificate});
  EXPECT_EQ(reason(verify_chain({make_leaf(theirs)}, bundles, kNow)), kUnknown);
  const Certificate foreign = make_leaf(theirs, [](auto& c) { c.uris = {"spiffe://other.org/web"}; });
  EXPECT_EQ(verify_chain({foreign}, bundles, kNow)->text(), "spiffe://other.org/web");
  EXPECT_EQ(reason(verify_chain({make_leaf(ours)}, bundles_with({}), kNow)), kUnknown);
}

TEST(VerifyChain, ClimbsIntermediatesInAnyOrder) {
  const Authority root = make_root("root", KeyType::ec_p256, 0);
  const Authority one = make_intermediate(root, "one", 1);
  const Authority two = make_intermediate(one, "two", 2);
  const Certificate leaf = make_leaf(two);
  const BundleSet bundles = bundles_with({root.certificate});
  EXPECT_EQ(reason(verify_chain({leaf, two.certificate, one.certificate}, bundles, kNow)), "accepted");
  EXPECT_EQ(reason(verify_chain({leaf, one.certificate, two.certificate}, bundles, kNow)), "accepted");
  EXPECT_EQ(reason(verify_chain({leaf, two.certificate, one.certificate, root.certificate}, bundles, kNow)),
            "accepted");
  EXPECT_EQ(reason(verify_chain({leaf, two.certificate}, bundles, kNow)), kUnknown);
  EXPECT_EQ(reason(verify_chain({leaf, two.certificate}, bundles_with({one.certificate}), kNow)), "accepted");
  // The first certificate is the leaf, whatever follows.
  EXPECT_NE(reason(verify_chain({two.certificate, leaf, one.certificate}, bundles, kNow)).find("path is empty"),
            std::string::npos);
  Folder folder;
  const std::string ca = folder.pem("ca.pem", "CERTIFICATE", root.certificate.der);
  const std::string middle = folder.text(
      "middle.pem", pem_encode("CERTIFICATE", one.certificate.der) + pem_encode("CERTIFICATE", two.certificate.der));
  const auto said = run_openssl("verify -x509_strict -attime " + std::to_string(kNow) + " -CAfile " + ca +
                                " -untrusted " + middle + " " + folder.pem("leaf.pem", "CERTIFICATE", leaf.der));
  EXPECT_EQ(said.status, 0) << said.output;
}

TEST(VerifyChain, IntermediatesMustBeAllowedToSign) {
  const Authority root = make_root("root", KeyType::ec_p256, 0);
  const BundleSet bundles = bundles_with({root.certificate});
  const struct {
    Change change;
    const char* says;
  } kCases[] = {
      {[](auto& c) { c.ca = false; }, "not authorized to sign other certificates"},
      {[](auto& c) { c.key_usage = kDigitalSignature; }, "lacks the key usage"},
      {[](auto& c) { c.not_after = kNow - 1; }, "is after"},
      {[](auto& c) { c.not_before = kNow + 5; }, "is before"},
      {[](auto& c) { c.key_usage = 0; }, "accepted"},
  };
  for (const auto& c : kCases) {
    const Authority middle = make_intermediate(root, "middle", 1, c.change);
    const std::string said = reason(verify_chain({make_leaf(middle), middle.certificate}, bundles, kNow));
    EXPECT_NE(said.find(c.says), std::string::npos) << said;
  }
}

TEST(VerifyChain, AnExpiredRootDoesNotCount) {
  const Authority root = make_root("root", KeyType::ec_p256, 0, [](auto& c) { c.not_after = kNow - 1; });
  const std::string said = reason(verify_chain({make_leaf(root)}, bundles_with({root.certificate}), kNow));
  EXPECT_NE(said.find("has expired or is not yet valid"), std::string::npos) << said;
}

TEST(VerifyChain, PathLengthCountsIntermediates) {
  const Authority plain = make_root("root", KeyType::ec_p256, 0);
  // basicConstraints { CA true, pathLen 0 }, which our builder never writes
  const PrivateKey& key = *plain.key;
  const CertificateTemplate cert = ca_template("root", key);
  Bytes tbs = encode_tbs(cert, KeyType::ec_p256, HashAlg::sha256);
  const std::string was = hex_encode(encode_extension(oids::kBasicConstraints, true, *hex_decode("30030101ff")));
  const std::string with = hex_encode(encode_extension(oids::kBasicConstraints, true, *hex_decode("30060101ff020100")));
  const auto outer = der::single(tbs, der::kSequence);
  Bytes fields;
  for (der::Reader reader(outer->content); !reader.empty();) {
    const auto field = reader.next();
    if (field->tag != 0xa3) {
      append(fields, field->whole);
      continue;
    }
    std::string list = hex_encode(der::single(field->content, der::kSequence)->content);
    ASSERT_NE(list.find(was), std::string::npos);
    list.replace(list.find(was), was.size(), with);
    append(fields, der::element(0xa3, der::element(der::kSequence, *hex_decode(list))));
  }
  const Authority root{&key, *Certificate::parse(sign_tbs(der::element(der::kSequence, fields), key))};
  EXPECT_EQ(root.certificate.path_len, 0);
  const BundleSet bundles = bundles_with({root.certificate});
  EXPECT_EQ(reason(verify_chain({make_leaf(root)}, bundles, kNow)), "accepted");
  const Authority middle = make_intermediate(root, "middle", 1);
  const std::string said = reason(verify_chain({make_leaf(middle), middle.certificate}, bundles, kNow));
  EXPECT_NE(said.find("too many intermediates"), std::string::npos) << said;
}

TEST(VerifyChain, AMadeUpChainCannotBurnTheCpu) {
  // Sixteen certificates of one name, each a possible issuer of each: without a bound on signature checks this is 15!.
  const Authority root = make_root("same", KeyType::ec_p256, 0);
  const Authority other = make_root("same", KeyType::ec_p256, 1, [](auto& c) { c.subject_key_id.clear(); });
  std::vector<Certificate> chain{make_leaf(other, [](auto& c) { c.authority_key_id.clear(); })};
  for (int i = 1; i < 16; ++i) chain.push_back(other.certificate);
  const std::string said = reason(verify_chain(chain, bundles_with({root.certificate}), kNow));
  EXPECT_NE(said.find("signature check attempts limit reached"), std::string::npos) << said;
}

TEST(VerifyChain, SpiresOwnCertificatesPass) {
  const Certificate root = *Certificate::parse(vector_der("ca.pem"));
  const BundleSet bundles = bundles_with({root});
  const int64_t now = root.not_before + 60;
  for (const auto& [file, id] : {std::pair{"server_svid.pem", "spiffe://example.org/spire/server"},
                                 {"workload_svid.pem", "spiffe://example.org/root"},
                                 {"workload_dns_svid.pem", "spiffe://example.org/web"}}) {
    const auto said = verify_chain({*Certificate::parse(vector_der(file))}, bundles, now);
    ASSERT_TRUE(said.has_value()) << said.error().message;
    EXPECT_EQ(said->text(), id);
    EXPECT_EQ(spiffe_id_of(*Certificate::parse(vector_der(file)))->text(), id);
  }
}

}  // namespace
}  // namespace limpet
