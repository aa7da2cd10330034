// SPDX-License-Identifier: Apache-2.0
// The CA under an upstream authority that the test plays: what it accepts, how it survives, what it takes over.
#include "proto/spire_bundle.pb.h"
#include "proto/spire_localauthority.pb.h"
#include "server/minted_ca.h"
#include "server/upstream_follower.h"
#include "server_rig.h"
#include "store/journal.h"

namespace limpet::server::test {
namespace {

Bytes name(const std::string& text) { return encode_name({{kOidCommonName, text}}); }

Certificate signed_by(const PrivateKey& key, CertificateTemplate cert) {
  const Bytes tbs = encode_tbs(cert, KeyType::ec_p256, HashAlg::sha256);
  return *Certificate::parse(
      seal_certificate(tbs, KeyType::ec_p256, HashAlg::sha256, *key.sign(HashAlg::sha256, sha256(tbs))));
}
CertificateTemplate ca_for(const PublicKey& key, const std::string& subject, const Certificate* issuer) {
  CertificateTemplate cert;
  cert.serial = random_serial();
  cert.subject = name(subject);
  cert.issuer = issuer != nullptr ? issuer->subject : cert.subject;
  cert.not_before = kStart - 10;
  cert.not_after = kStart + 30 * 86400;
  cert.spki = key.spki();
  cert.ca = true;
  cert.key_usage = kKeyCertSign | kCrlSign;
  cert.uris = {"spiffe://example.org"};
  cert.subject_key_id = key.key_id();
  if (issuer != nullptr) cert.authority_key_id = issuer->subject_key_id;
  return cert;
}

// Signs with a root of its own, or fails as it is told.
class FakeUpstream final : public UpstreamAuthority {
 public:
  FakeUpstream(Loop& loop, size_t key) : loop_(loop), key_(&some_key(key)) {
    root = signed_by(*key_, ca_for(key_->public_key(), "root " + std::to_string(key), nullptr));
    signer_ = root;
  }
  // From now on another root's key signs.
  void sign_as(const FakeUpstream& other) {
    key_ = other.key_;
    signer_ = other.root;
  }
  [[nodiscard]] const std::string& name() const override { return name_; }
  void mint_ca(Bytes csr_der, int64_t ttl, Done<MintedCa> done) override {
    csrs.push_back(*Csr::parse(csr_der));
    last_ttl = ttl;
    Result<MintedCa> result = fail(Code::unavailable, failure);
    if (failure.empty()) {
      CertificateTemplate cert = ca_for(csrs.back().key, "ca", &signer_);
      cert.subject = csrs.back().subject;
      cert.not_after = kStart + extra + 86400 * (1 + static_cast<int64_t>(csrs.size()));
      result = MintedCa{{signed_by(*key_, cert).der}, {signer_.der}};
    }
    loop_.post([held = std::move(done), r = std::move(result)]() mutable { held(std::move(r)); });
  }
  void publish_jwt_key(UpstreamJwtKey key, Done<void> done) override {
    published.push_back(key.id);
    if (silent) return held.push_back(std::move(done));
    loop_.post([held = std::move(done), r = publish_result]() mutable { held(std::move(r)); });
  }
  std::unique_ptr<UpstreamWatch> watch_bundle(UpstreamWatcher& watcher) override {
    watches++;
    listener = &watcher;
    return std::make_unique<UpstreamWatch>();
  }

  Certificate root;
  std::vector<Csr> csrs;
  int64_t last_ttl = 0;
  int64_t extra = 0;  // seconds that its certificates live longer
  std::string failure;
  std::vector<std::string> published;
  Result<void> publish_result;
  bool silent = false;           // publish_jwt_key() is not answered
  std::vector<Done<void>> held;  // its callers then
  UpstreamWatcher* listener = nullptr;
  int watches = 0;

 private:
  Loop& loop_;
  const PrivateKey* key_;
  Certificate signer_;
  std::string name_ = "fake";
};

struct UpstreamRig : ServerRig {
  UpstreamRig() { upstream = &above; }
  ~UpstreamRig() { core.reset(); }
  FakeUpstream above{loop, 60};
};

TEST(MintedCa, IsRefusedWhereNobodyCouldVerifyWhatItSigns) {
  const TrustDomain domain = *TrustDomain::parse("example.org");
  const PublicKey& key = some_key(1).public_key();
  const Certificate root = signed_by(some_key(60), ca_for(some_key(60).public_key(), "root", nullptr));
  const Certificate middle = signed_by(some_key(60), ca_for(some_key(61).public_key(), "middle", &root));
  const Certificate stranger = signed_by(some_key(62), ca_for(some_key(62).public_key(), "root", nullptr));
  const auto issue = [&](const std::function<void(CertificateTemplate&)>& change) {
    CertificateTemplate cert = ca_for(key, "ca", &middle);
    if (change) change(cert);
    return signed_by(some_key(61), cert).der;
  };
  struct Case {
    MintedCa minted;
    const char* why;
  };
  const Bytes good = issue({});
  const Case cases[] = {
      {{{}, {root.der}}, "its chain or its root is missing"},
      {{{good, middle.der}, {}}, "its chain or its root is missing"},
      {{{issue([](CertificateTemplate& c) { c.spki = some_key(2).public_key().spki(); }), middle.der}, {root.der}},
       "it is for another key"},
      {{{issue([](CertificateTemplate& c) { c.ca = false; }), middle.der}, {root.der}}, "it is not a CA"},
      {{{issue([](CertificateTemplate& c) { c.key_usage = kCrlSign; }), middle.der}, {root.der}},
       "it has no key usage keyCertSign"},
      {{{issue([](CertificateTemplate& c) { c.key_usage |= kKeyEncipherment; }), middle.der}, {root.der}},
       "it has a key usage beside keyCertSign, cRLSign, digitalSignature"},
      {{{issue([](CertificateTemplate& c) { c.uris = {"spiffe://other.org"}; }), middle.der}, {root.der}},
       "its URI SAN is not spiffe://example.org"},
      {{{issue([](CertificateTemplate& c) { c.not_after = kStart; }), middle.der}, {root.der}},
       "it has expired already"},
      {{{good}, {root.der}}, "its chain leads to none of the upstream authority's roots"},
      {{{good, middle.der}, {stranger.der}}, "its chain leads to none of the upstream authority's roots"},
      {{{good, root.der}, {root.der}}, "certificate 1 of its chain is not signed by the next one"},
  };
  for (const Case& c : cases) {
    const auto checked = check_minted(c.minted, key, domain, kStart);
    ASSERT_FALSE(checked) << c.why;
    EXPECT_EQ(checked.error().message,
              std::string("the CA certificate that the upstream authority signed is not usable: ") + c.why);
  }
  EXPECT_FALSE(check_minted({{to_bytes("x")}, {root.der}}, key, domain, kStart));
  const auto checked = check_minted({{good, middle.der}, {stranger.der, root.der}}, key, domain, kStart);
  ASSERT_TRUE(checked) << checked.error().message;
  EXPECT_EQ(checked->upstream_id, hex_encode(root.subject_key_id));
  EXPECT_EQ(checked->chain, (std::vector<Bytes>{good, middle.der}));
}

TEST(UpstreamCa, AsksForACaOfTheProfileAndKeepsTheChain) {
  UpstreamRig rig;
  ASSERT_TRUE(rig.start());
  ASSERT_EQ(rig.above.csrs.size(), 1u);
  const Csr& csr = rig.above.csrs[0];
  EXPECT_TRUE(csr.verify());
  EXPECT_EQ(csr.uris, std::vector<std::string>{"spiffe://example.org"});
  EXPECT_EQ(rig.above.last_ttl, 86400);
  const CaSlot& slot = *rig.core->ca().current();
  EXPECT_EQ(slot.authority->upstream_chain, (std::vector<Bytes>{slot.authority->certificate.der}));
  EXPECT_EQ(slot.upstream_authority_id, hex_encode(rig.above.root.subject_key_id));
  EXPECT_EQ(rig.core->bundles().own()->x509_authorities, (std::vector<X509Authority>{{rig.above.root.der, false}}));
  const Bytes active = slot.authority->certificate.der;
  rig.above.failure = "gone";
  ASSERT_TRUE(rig.start());  // a restart needs no upstream
  EXPECT_EQ(rig.core->ca().active_certificate()->der, active);
  EXPECT_EQ(rig.core->ca().current()->authority->upstream_chain, (std::vector<Bytes>{active}));
  EXPECT_EQ(rig.above.csrs.size(), 1u);
}

TEST(UpstreamCa, AServerWithoutACaWaitsForItAndMakesOneKeyOnly) {
  UpstreamRig rig;
  rig.above.failure = "not yet";
  EXPECT_EQ(rig.start().error().message, "not answered");
  for (int i = 0; i < 20; i++) rig.pass(5);
  EXPECT_GT(rig.above.csrs.size(), 5u);
  EXPECT_EQ(rig.keys.generated, 1u);
  EXPECT_EQ(rig.health.parts().at("ca").state, HealthState::failed);
  rig.above.failure.clear();
  rig.pass(5);
  ASSERT_NE(rig.core->ca().active_certificate(), nullptr);
  EXPECT_EQ(rig.health.parts().at("ca").state, HealthState::ok);
}

TEST(UpstreamCa, AnUpstreamThatIsAwayForHoursOnlyDegrades) {
  UpstreamRig rig;
  ASSERT_TRUE(rig.start());
  const Bytes active = rig.core->ca().active_certificate()->der;
  rig.above.failure = "gone";
  for (int i = 0; i < 40; i++) rig.pass(3600);
  EXPECT_EQ(rig.core->ca().active_certificate()->der, active);
  EXPECT_EQ(rig.health.parts().at("ca").state, HealthState::degraded);
  EXPECT_TRUE(rig.health.serving());
  rig.above.failure.clear();
  rig.pass(20);
  EXPECT_EQ(rig.health.parts().at("ca").state, HealthState::ok);
  EXPECT_NE(rig.core->ca().next(), nullptr);
}

TEST(UpstreamJwt, AKeyThatTheUpstreamDidNotTakeIsToldAgainUntilItDoesAndAfterARestart) {
  for (const bool silent : {false, true}) {
    UpstreamRig rig;
    rig.above.silent = silent;
    rig.above.publish_result = fail(Code::unavailable, "gone");
    (void)rig.start();
    rig.pass(6);  // the first attempt has 5 s
    ASSERT_NE(rig.core->jwt()->current(), nullptr);
    const std::string key = rig.core->jwt()->current()->key_id;
    rig.pass(10);
    rig.pass(61);  // the others have a minute
    EXPECT_EQ(rig.health.parts().at("jwt_key").state, HealthState::degraded);
    EXPECT_TRUE(rig.health.parts().at("jwt_key").reason.starts_with("the JWT key is known to this server alone: "));
    EXPECT_GE(rig.above.published.size(), 2u);
    rig.above.silent = false;
    rig.above.publish_result = {};
    rig.pass(61);
    rig.pass(10);
    EXPECT_EQ(rig.health.parts().at("jwt_key").state, HealthState::ok);
    const size_t told = rig.above.published.size();
    rig.pass(10);
    EXPECT_EQ(rig.above.published.size(), told) << "once is enough";
    ASSERT_TRUE(rig.start());
    rig.pass(10);
    EXPECT_EQ(rig.above.published, std::vector<std::string>(told + 1, key));
    rig.core.reset();
  }
}

TEST(UpstreamCa, AServerThatGetsAnUpstreamPublishesItsRootAMinuteBeforeItSigns) {
  UpstreamRig rig;
  rig.upstream = nullptr;
  ASSERT_TRUE(rig.start());
  rig.pass(3600);
  rig.upstream = &rig.above;
  ASSERT_TRUE(rig.start());
  ASSERT_NE(rig.core->ca().next(), nullptr);
  for (int i = 0; i < 5; ++i) rig.pass(10);
  EXPECT_TRUE(rig.core->ca().current()->upstream_authority_id.empty());
  for (int i = 0; i < 2; ++i) rig.pass(10);
  EXPECT_FALSE(rig.core->ca().current()->upstream_authority_id.empty());
}

TEST(UpstreamFollower, MergesWhatIsNewAndTakesNothingAwayThatIsOnlyDropped) {
  Bundle bundle;
  bundle.x509_authorities = {{to_bytes("own"), false}};
  bundle.jwt_authorities = {{"kid", to_bytes("spki"), 5, false}};
  EXPECT_FALSE(merge_upstream(bundle, {}));
  EXPECT_FALSE(merge_upstream(bundle, {{to_bytes("own")}, {{"kid", to_bytes("spki"), 5, false}}, 0}));
  EXPECT_TRUE(
      merge_upstream(bundle, {{to_bytes("new")}, {{"kid", to_bytes("spki"), 5, true}, {"two", {}, 6, false}}, 0}));
  EXPECT_EQ(bundle.x509_authorities, (std::vector<X509Authority>{{to_bytes("own"), false}, {to_bytes("new"), false}}));
  ASSERT_EQ(bundle.jwt_authorities.size(), 2u);
  EXPECT_TRUE(bundle.jwt_authorities[0].tainted);
}

TEST(UpstreamFollower, ARootTaintedAboveIsTaintedAndRevokedHere) {
  Bundle bundle;
  bundle.x509_authorities = {{to_bytes("old"), false}, {to_bytes("new"), false}};
  UpstreamBundle above;
  above.x509_roots = {to_bytes("old"), to_bytes("new")};
  above.tainted_roots = {to_bytes("old"), to_bytes("elsewhere")};
  Bundle kept = bundle;
  EXPECT_FALSE(merge_upstream(kept, above, false));
  EXPECT_TRUE(merge_upstream(bundle, above));
  EXPECT_EQ(bundle.x509_authorities, (std::vector<X509Authority>{{to_bytes("old"), true}, {to_bytes("new"), false}}));
  EXPECT_FALSE(merge_upstream(bundle, above));
  EXPECT_FALSE(merge_upstream(bundle, {}));  // no roots at all: nothing is said of them
  above.x509_roots = {to_bytes("new")};
  above.tainted_roots = {};
  EXPECT_TRUE(merge_upstream(bundle, above));
  EXPECT_EQ(bundle.x509_authorities, (std::vector<X509Authority>{{to_bytes("new"), false}}));
}

// The CA moves first: agents sign anew what hangs under a tainted root, and that must not be under it again.
TEST(UpstreamFollower, ACaUnderARootTaintedAboveIsReplacedBeforeTheTaintIsTakenOver) {
  UpstreamRig rig;
  ASSERT_TRUE(rig.start());
  FakeUpstream moved{rig.loop, 64};
  const std::string before = rig.core->ca().current()->upstream_authority_id;
  ASSERT_EQ(before, hex_encode(rig.above.root.subject_key_id));
  UpstreamBundle news;
  news.x509_roots = {rig.above.root.der, moved.root.der};
  news.tainted_roots = {rig.above.root.der};
  const auto tainted = [&](const Bytes& der) {
    for (const X509Authority& root : rig.core->bundles().own()->x509_authorities) {
      if (root.der == der) return root.tainted;
    }
    return false;
  };
  // 1. the upstream cannot sign just now: the new root is known, nothing is tainted yet
  rig.above.failure = "no route";
  rig.above.listener->on_upstream_bundle(news);
  rig.run();
  EXPECT_FALSE(tainted(rig.above.root.der));
  const std::string stuck = "the X.509 CA hangs under root " + before +
                            ", which upstream authority fake tainted, and cannot be replaced yet: ";
  const auto reason = [&rig] { return rig.health.parts().at("upstream").reason; };
  EXPECT_EQ(reason(), stuck + "Unavailable: no route");
  EXPECT_EQ(rig.core->bundles().own()->x509_authorities.size(), 2u);
  EXPECT_EQ(rig.core->ca().current()->upstream_authority_id, before);
  const Bytes active = rig.core->ca().active_certificate()->der;
  const size_t asked = rig.above.csrs.size();
  rig.above.listener->on_upstream_bundle(news);  // said again: nothing more is asked for that
  rig.run();
  EXPECT_EQ(rig.above.csrs.size(), asked);
  // 2. it can, but still under the tainted root
  rig.above.failure.clear();
  rig.pass(30);
  EXPECT_FALSE(tainted(rig.above.root.der));
  const std::string still = stuck +
                            "FailedPrecondition: the upstream authority still signs under the root that it tainted; "
                            "have it sign under another one (a SPIFFE server: prepare and activate another X.509 "
                            "authority there)";
  EXPECT_EQ(reason(), still);
  EXPECT_EQ(rig.health.parts().at("upstream").state, HealthState::degraded);
  EXPECT_TRUE(rig.health.serving());
  EXPECT_EQ(rig.core->ca().active_certificate()->der, active) << "a CA that helps nobody is not moved to";
  rig.above.listener->on_upstream_watch_end(fail(Code::unavailable, "cut off"));
  EXPECT_EQ(reason(), still + "; Unavailable: cut off");
  rig.above.listener->on_upstream_watch_end({});
  EXPECT_EQ(reason(), still) << "a watch that ended well says nothing of the root";
  // 3. under the other one: the CA moves, and then the root is tainted
  rig.above.sign_as(moved);
  rig.pass(30);
  EXPECT_EQ(rig.core->ca().current()->upstream_authority_id, hex_encode(moved.root.subject_key_id));
  EXPECT_TRUE(tainted(rig.above.root.der));
  EXPECT_FALSE(tainted(moved.root.der));
  EXPECT_EQ(rig.health.parts().at("upstream").state, HealthState::ok) << reason();
  // 4. revoked above: gone here
  news.x509_roots = {moved.root.der};
  news.tainted_roots = {};
  rig.above.listener->on_upstream_bundle(news);
  rig.run();
  ASSERT_EQ(rig.core->bundles().own()->x509_authorities.size(), 1u);
  EXPECT_EQ(rig.core->bundles().own()->x509_authorities[0].der, moved.root.der);
}

TEST(UpstreamFollower, ATaintThatIsTakenBackAboveEndsTheTrouble) {
  UpstreamRig rig;
  ASSERT_TRUE(rig.start());
  UpstreamBundle news;
  news.x509_roots = {rig.above.root.der};
  news.tainted_roots = {rig.above.root.der};
  rig.above.listener->on_upstream_bundle(news);
  rig.run();
  EXPECT_EQ(rig.health.parts().at("upstream").state, HealthState::degraded);
  news.tainted_roots = {};
  rig.above.listener->on_upstream_bundle(news);
  rig.run();
  EXPECT_EQ(rig.health.parts().at("upstream").state, HealthState::ok);
  const size_t asked = rig.above.csrs.size();
  rig.pass(31);
  EXPECT_EQ(rig.above.csrs.size(), asked) << "nothing is left to be tried again";
}

TEST(UpstreamFollower, LeavesRoomForTheServersOwnAuthorities) {
  Bundle bundle;
  UpstreamBundle news;
  for (int i = 0; i < 990; ++i) news.x509_roots.push_back(to_bytes("root " + std::to_string(i)));
  for (int i = 0; i < 1990; ++i) news.jwt_keys.push_back({"kid " + std::to_string(i), {}, 6, false});
  EXPECT_TRUE(merge_upstream(bundle, news));
  EXPECT_EQ(bundle.x509_authorities.size(), 980u);
  EXPECT_EQ(bundle.jwt_authorities.size(), 1980u);
  news.jwt_keys[0].tainted = true;
  EXPECT_TRUE(merge_upstream(bundle, news));
  EXPECT_TRUE(bundle.jwt_authorities[0].tainted);
  EXPECT_FALSE(merge_upstream(bundle, news));
}

TEST(UpstreamFollower, WatchesAgainAfterFiveSecondsAndSaysWhenItCannot) {
  UpstreamRig rig;
  ASSERT_TRUE(rig.start());
  EXPECT_EQ(rig.above.watches, 1);
  const Certificate other = signed_by(some_key(63), ca_for(some_key(63).public_key(), "other", nullptr));
  rig.above.listener->on_upstream_bundle({{rig.above.root.der, other.der, to_bytes("garbage")}, {}, 0});
  rig.run();
  EXPECT_EQ(rig.core->bundles().own()->x509_authorities.size(), 2u);
  rig.above.listener->on_upstream_watch_end(fail(Code::unavailable, "no route"));
  rig.run();
  EXPECT_EQ(rig.health.parts().at("upstream").state, HealthState::degraded);
  EXPECT_TRUE(rig.health.serving());
  EXPECT_EQ(rig.above.watches, 1);
  rig.pass(5);
  EXPECT_EQ(rig.above.watches, 2);
  rig.above.listener->on_upstream_watch_end({});
  EXPECT_EQ(rig.health.parts().at("upstream").state, HealthState::ok);
}

// ---- taint and revoke ----
using TaintRequest = spire_api_server_localauthority_v1_TaintX509UpstreamAuthorityRequest;
using TaintResponse = spire_api_server_localauthority_v1_TaintX509UpstreamAuthorityResponse;

std::string change_root(ServerRig& rig, const std::string& method, const std::string& id) {
  wire::Message<TaintRequest> request;  // the same fields for both
  wire::set_string(request->subject_key_id, id);
  const auto response = rig.unary<TaintResponse>("localauthority.v1.LocalAuthority", method, rig.local(), request);
  return response ? std::string(wire::view((*response)->upstream_authority_subject_key_id)) : response.error().text();
}

TEST(UpstreamTaint, WithoutAnUpstreamItIsAFailedPrecondition) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  const std::string refused = "FailedPrecondition: upstream authority is not configured";
  EXPECT_EQ(change_root(rig, "TaintX509UpstreamAuthority", "aa"), refused);
  EXPECT_EQ(change_root(rig, "RevokeX509UpstreamAuthority", "aa"), refused);
}

TEST(UpstreamTaint, OnlyTheRootAboveTheOldAuthorityAndTaintBeforeRevoke) {
  UpstreamRig rig;
  ASSERT_TRUE(rig.start());
  const std::string old_root = hex_encode(rig.above.root.subject_key_id);
  const std::string wrong = "InvalidArgument: provided subject key id is not valid: ";
  EXPECT_EQ(change_root(rig, "TaintX509Authority", "aa"),
            "FailedPrecondition: local authority can't be tainted if there is an upstream authority");
  EXPECT_EQ(change_root(rig, "RevokeX509Authority", "aa"),
            "FailedPrecondition: local authority can't be revoked if there is an upstream authority");
  EXPECT_EQ(change_root(rig, "TaintX509UpstreamAuthority", ""), wrong + "no subject key ID provided");
  EXPECT_EQ(change_root(rig, "TaintX509UpstreamAuthority", old_root),
            wrong + "unable to use upstream authority signing current authority");
  EXPECT_EQ(change_root(rig, "TaintX509UpstreamAuthority", "aa"),
            wrong + "only upstream authorities signing an old authority can be used");

  FakeUpstream next(rig.loop, 64);  // another root above from now on
  next.extra = 20 * 86400;          // so that nothing is prepared after it
  rig.upstream = &next;
  ASSERT_TRUE(rig.start());
  for (int i = 0; i < 60 * 6 && rig.core->ca().current()->upstream_authority_id == old_root; i++) rig.pass(600);
  ASSERT_NE(rig.core->ca().current()->upstream_authority_id, old_root);
  EXPECT_EQ(change_root(rig, "TaintX509UpstreamAuthority", "aa"),
            wrong + "upstream authority didn't sign the old local authority");
  EXPECT_TRUE(change_root(rig, "RevokeX509UpstreamAuthority", old_root).starts_with("Internal: "));
  EXPECT_EQ(change_root(rig, "TaintX509UpstreamAuthority", old_root), old_root);
  EXPECT_TRUE(rig.core->bundles().own()->x509_authorities[0].tainted);
  EXPECT_EQ(change_root(rig, "RevokeX509UpstreamAuthority", old_root), old_root);
  EXPECT_EQ(rig.core->bundles().own()->x509_authorities, (std::vector<X509Authority>{{next.root.der, false}}));
  rig.core.reset();
}

}  // namespace
}  // namespace limpet::server::test
