// SPDX-License-Identifier: Apache-2.0
#include <ctime>

#include "carriers.h"
#include "plugin/upstream_authority_facade.h"
#include "support/mint.h"
#include "support/openssl.h"

namespace limpet {
namespace {

using namespace test;
using Words = std::vector<std::string>;

const int64_t kHere = std::time(nullptr);
void now_valid(CertificateTemplate& cert) {
  cert.not_before = kHere - 60;
  cert.not_after = kHere + 86400;
  cert.serial = random_serial();
}
void expired(CertificateTemplate& cert) {
  cert.not_before = kHere - 7200;
  cert.not_after = kHere - 60;
}

struct Watcher final : UpstreamWatcher {
  void on_upstream_bundle(UpstreamBundle bundle) override { roots = std::move(bundle.x509_roots); }
  void on_upstream_watch_end(Result<void> why) override { end = outcome(why); }
  std::vector<Bytes> roots;
  std::string end;
};

class DiskUpstream : public ShippedPlugin {
 protected:
  std::string cert() { return directory + "/ca.pem"; }
  std::string key() { return directory + "/ca.key"; }
  std::string bundle() { return directory + "/roots.pem"; }
  std::string config() {
    return R"({"cert_file_path":")" + cert() + R"(","key_file_path":")" + key() + R"(","bundle_file_path":")" +
           bundle() + "\"}";
  }
  std::string rootless() { return R"({"cert_file_path":")" + cert() + R"(","key_file_path":")" + key() + "\"}"; }
  void put(const Authority& ca, const std::vector<Certificate>& issuers, const std::vector<Certificate>& roots) {
    std::string text = pem_encode("CERTIFICATE", ca.certificate.der);
    for (const Certificate& c : issuers) text += pem_encode("CERTIFICATE", c.der);
    replace(cert(), text);
    put_key(*ca.key);
    text.clear();
    for (const Certificate& c : roots) text += pem_encode("CERTIFICATE", c.der);
    replace(bundle(), text);
  }
  void put_key(const PrivateKey& private_key) { replace(key(), pem_encode("PRIVATE KEY", private_key.pkcs8().view())); }
  // Renamed into place, as it should be done: a new inode tells the plugin.
  void replace(const std::string& path, const std::string& text) {
    write(path + ".new", text);
    std::filesystem::rename(path + ".new", path);
  }
  std::string open(const std::string& json, bool dry_run = false) {
    upstream.reset();
    auto instance = create("upstream_authority_disk", LIMPET_UPSTREAM_AUTHORITY, kUpstreamAuthorityPrefix);
    const std::string result = outcome(configure(*instance, json, dry_run));
    if (result == "ok" && !dry_run)
      upstream = make_upstream_authority(instance);
    else
      instance->close();
    return result;
  }
  Result<MintedCa> mint(const Bytes& csr, int64_t ttl = 3600) {
    return wait<MintedCa>([&](Done<MintedCa> done) { upstream->mint_ca(csr, ttl, std::move(done)); });
  }
  static Bytes csr(std::vector<std::string> uris = {"spiffe://example.org"}) {
    const PrivateKey& server = shared_key(KeyType::ec_p256, 50);
    return *make_csr({common_name("server"), server.public_key().spki(), std::move(uris), {}}, server);
  }
  Watcher watch() {
    Watcher watcher;
    const auto running = upstream->watch_bundle(watcher);
    for (int turn = 0; turn < 60'000 && watcher.end.empty(); ++turn) {
      if (loop.run_ready() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return watcher;
  }
  // What openssl says of the first certificate of the chain.
  std::string verify(const std::vector<Bytes>& chain, const std::vector<Bytes>& roots) {
    Folder files;
    std::string between;
    for (size_t i = 1; i < chain.size(); ++i) between += pem_encode("CERTIFICATE", chain[i]);
    std::string anchors;
    for (const Bytes& root : roots) anchors += pem_encode("CERTIFICATE", root);
    const std::string untrusted = between.empty() ? "" : " -untrusted " + files.text("between", between);
    const Outcome said = run_openssl("verify -x509_strict -CAfile " + files.text("roots", anchors) + untrusted + " " +
                                     files.pem("ca", "CERTIFICATE", chain.at(0)));
    return said.status == 0 ? "ok" : said.output;
  }
  std::string refused(const std::string& why) { return "FailedPrecondition: upstreamauthority(disk): " + why; }

  const Authority root = make_root("root", KeyType::ec_p256, 0, now_valid);
  const Authority middle = make_intermediate(root, "middle", 1, now_valid);
  const Authority ca = make_intermediate(middle, "ca", 2, now_valid);
  std::unique_ptr<UpstreamAuthority> upstream;
};

TEST_P(DiskUpstream, RefusesAConfigurationWithoutItsFiles) {
  const std::string prefix = "InvalidArgument: upstreamauthority(disk): ";
  EXPECT_EQ(open("{}"), prefix + "set cert_file_path, the PEM file of the CA certificate");
  EXPECT_EQ(open(R"({"cert_file_path":"a"})"), prefix + "set key_file_path, the PEM file of the CA's private key");
  EXPECT_EQ(open(R"({"certificate":"a"})"),
            prefix + "unknown key \"certificate\"; known: bundle_file_path, cert_file_path, key_file_path");
}

TEST_P(DiskUpstream, RefusesFilesThatDoNotFitAndNamesThem) {
  EXPECT_EQ(open(config()), refused(cert() + ": cannot be opened: no such file or directory"));
  put(ca, {middle.certificate}, {root.certificate});
  std::filesystem::remove(key());
  EXPECT_EQ(open(config()), refused(key() + ": cannot be opened: no such file or directory"));
  replace(key(), "");
  EXPECT_EQ(open(config()), refused(key() + ": no private key in it; it must be PEM and not encrypted"));
  put_key(shared_key(KeyType::ec_p256, 77));
  EXPECT_EQ(open(config()), refused(key() + ": the key does not match the certificate in " + cert()));

  const std::string no_root = bundle() + ": it does not hold the root of the CA certificate in " + cert();
  put(ca, {}, {root.certificate});
  EXPECT_TRUE(open(config()).starts_with(refused(no_root)));
  const Authority other = make_root("root", KeyType::ec_p256, 9, now_valid);  // the same name, another key
  put(ca, {middle.certificate}, {other.certificate});
  EXPECT_TRUE(open(config()).starts_with(refused(no_root)));
  put(ca, {middle.certificate}, {});
  EXPECT_EQ(open(config()), refused(bundle() + ": no certificate in it"));
  put(ca, {middle.certificate}, {root.certificate});
  EXPECT_EQ(open(rootless()), refused(cert() + ": the CA certificate is not self-signed: set bundle_file_path to the "
                                               "file of its root"));
  replace(cert(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  EXPECT_TRUE(open(config()).starts_with(refused(cert() + ": certificate 1: ")));
  replace(cert(), std::string((1u << 20) + 1, 'x'));
  EXPECT_EQ(open(config()), refused(cert() + ": larger than 1 MiB"));
}

TEST_P(DiskUpstream, RefusesWhatHasExpiredAndWhatIsNoCa) {
  const std::string renew = " has expired; put the renewed one there, nothing needs to be restarted";
  put(make_intermediate(root, "ca", 2, expired), {}, {root.certificate});
  EXPECT_EQ(open(config()), refused(cert() + ": the CA certificate" + renew));
  const Authority stale = make_intermediate(root, "middle", 1, expired);
  put(make_intermediate(stale, "ca", 2, now_valid), {stale.certificate}, {root.certificate});
  EXPECT_EQ(open(config()), refused(cert() + ": an intermediate certificate" + renew));
  const Authority old = make_root("root", KeyType::ec_p256, 0, expired);
  put(make_intermediate(old, "ca", 2, now_valid), {}, {old.certificate});
  EXPECT_EQ(open(config()), refused(bundle() + ": the root" + renew));
  put({ca.key, make_leaf(root,
                         [&](CertificateTemplate& cert) {
                           now_valid(cert);
                           cert.spki = ca.key->public_key().spki();
                         })},
      {}, {root.certificate});
  EXPECT_EQ(open(config()), refused(cert() + ": the certificate is not a CA"));
}

TEST_P(DiskUpstream, MintsCaCertificatesThatOpensslVerifies) {
  put(ca, {middle.certificate}, {root.certificate});
  ASSERT_EQ(open(config()), "ok");
  const auto minted = mint(csr());
  ASSERT_EQ(outcome(minted), "ok");
  EXPECT_EQ(minted->roots, (std::vector<Bytes>{root.certificate.der}));
  ASSERT_EQ(minted->chain.size(), 3u);
  EXPECT_EQ(minted->chain[1], ca.certificate.der);
  EXPECT_EQ(minted->chain[2], middle.certificate.der);
  EXPECT_EQ(verify(minted->chain, minted->roots), "ok");
  const Certificate made = *Certificate::parse(minted->chain[0]);
  EXPECT_EQ(made.subject, common_name("server"));
  EXPECT_EQ(made.key, shared_key(KeyType::ec_p256, 50).public_key());
  EXPECT_TRUE(made.ca);
  EXPECT_EQ(made.path_len, -1);
  EXPECT_EQ(made.key_usage, kKeyCertSign | kCrlSign);
  EXPECT_EQ(made.uris, (Words{"spiffe://example.org"}));
  EXPECT_EQ(made.authority_key_id, ca.certificate.subject_key_id);
  EXPECT_EQ(made.not_after - made.not_before, 3610);
  const auto longest = mint(csr(), 1'000'000'000);
  ASSERT_EQ(outcome(longest), "ok");
  EXPECT_EQ(Certificate::parse(longest->chain[0])->not_after, ca.certificate.not_after);
}

TEST_P(DiskUpstream, ASelfSignedCaIsItsOwnRoot) {
  const Authority rsa = make_root("rsa", KeyType::rsa_2048, 0, now_valid);
  for (const Authority* self_signed : {&root, &rsa}) {
    put(*self_signed, {}, {});
    ASSERT_EQ(open(rootless()), "ok");
    const auto minted = mint(csr());
    ASSERT_EQ(outcome(minted), "ok");
    EXPECT_EQ(minted->chain.size(), 1u);
    EXPECT_EQ(minted->roots, (std::vector<Bytes>{self_signed->certificate.der}));
    EXPECT_EQ(verify(minted->chain, minted->roots), "ok");
  }
}

TEST_P(DiskUpstream, ValidatesTheCsr) {
  put(root, {}, {});
  ASSERT_EQ(open(rootless()), "ok");
  const std::string names =
      "InvalidArgument: upstreamauthority(disk): the CSR must name spiffe://example.org and nothing else as its URI "
      "SAN";
  EXPECT_EQ(outcome(mint(csr({}))), names);
  EXPECT_EQ(outcome(mint(csr({"spiffe://other.org"}))), names);
  EXPECT_EQ(outcome(mint(csr({"spiffe://example.org/web"}))), names);
  EXPECT_EQ(outcome(mint(csr({"spiffe://example.org", "spiffe://example.org"}))), names);
  EXPECT_TRUE(outcome(mint(to_bytes("x"))).starts_with("InvalidArgument: upstreamauthority(disk): the CSR cannot"));
  Bytes broken = csr();
  broken.back() ^= 1;
  EXPECT_TRUE(outcome(mint(broken)).starts_with("InvalidArgument: upstreamauthority(disk): the CSR is not signed"));
}

TEST_P(DiskUpstream, TakesOverChangedFilesAndKeepsTheOldOnesWhileTheyAreWrong) {
  put(ca, {middle.certificate}, {root.certificate});
  ASSERT_EQ(open(config()), "ok");
  EXPECT_EQ(watch().end, "ok");
  const Authority next = make_root("next", KeyType::ec_p256, 3, now_valid);
  replace(bundle(), pem_encode("CERTIFICATE", root.certificate.der) + pem_encode("CERTIFICATE", next.certificate.der));
  Watcher both = watch();
  EXPECT_EQ(both.end, "ok");
  EXPECT_EQ(both.roots, (std::vector<Bytes>{root.certificate.der, next.certificate.der}));

  put_key(*next.key);  // half of a replacement
  Watcher half = watch();
  EXPECT_EQ(half.end, refused("the changed files are not used, those loaded before are: " + key() +
                              ": the key does not match the certificate in " + cert()));
  EXPECT_EQ(half.roots, both.roots);
  const auto old = mint(csr());
  ASSERT_EQ(outcome(old), "ok");
  EXPECT_EQ(verify(old->chain, {root.certificate.der}), "ok");

  replace(cert(), pem_encode("CERTIFICATE", next.certificate.der));
  const auto minted = mint(csr());  // noticed without a watch
  ASSERT_EQ(outcome(minted), "ok");
  EXPECT_EQ(minted->chain.size(), 1u);
  EXPECT_EQ(verify(minted->chain, {next.certificate.der}), "ok");
  EXPECT_EQ(watch().end, "ok");
}

TEST_P(DiskUpstream, ADryRunChangesNothingAndJwtKeysAreNotTaken) {
  put(root, {}, {});
  EXPECT_EQ(open(rootless(), true), "ok");
  ASSERT_EQ(open(rootless()), "ok");
  EXPECT_EQ(outcome(wait<void>([&](Done<void> done) {
              upstream->publish_jwt_key({"kid", to_bytes("spki"), 0, false}, std::move(done));
            })),
            "Unimplemented: upstreamauthority(disk): files on disk take no JWT keys");
}

BOTH_CARRIERS(DiskUpstream);

}  // namespace
}  // namespace limpet
