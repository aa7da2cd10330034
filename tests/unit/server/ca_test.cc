// SPDX-License-Identifier: Apache-2.0
#include "server/ca.h"

#include "server_rig.h"
#include "store/journal.h"

namespace limpet::server::test {
namespace {

constexpr int64_t kHour = 3600;

struct Signing {
  void on_done(Result<SignedSvid> r) { result = std::move(r); }
  Pending<SignedSvid> pending;
  std::optional<Result<SignedSvid>> result;
};
SvidRequest request_for(const std::string& path, int64_t ttl = kHour) {
  SvidRequest request;
  request.id = *SpiffeId::parse("spiffe://example.org" + path);
  request.spki = some_key().public_key().spki();
  request.subject_key_id = some_key().public_key().key_id();
  request.ttl = ttl;
  return request;
}
Certificate sign(ServerRig& rig, SvidRequest request) {
  Signing signing;
  rig.core->ca().sign(std::move(request), signing.pending.then<&Signing::on_done>(&signing));
  EXPECT_FALSE(signing.result);
  rig.run();
  if (!signing.result || !*signing.result) {
    ADD_FAILURE() << "not signed";
    return {};
  }
  EXPECT_EQ((*signing.result)->chain.size(), 1u);
  Certificate leaf = *Certificate::parse((*signing.result)->chain.at(0));
  EXPECT_EQ(leaf.serial_decimal(), (*signing.result)->serial);
  EXPECT_EQ(leaf.not_after, (*signing.result)->expires_at);
  return leaf;
}
// Days pass in steps of ten minutes, as the loop would see them.
void pass_hours(ServerRig& rig, int hours) {
  for (int i = 0; i < hours * 6; i++) rig.pass(600);
}

TEST(Ca, ItsOwnCertificateFollowsTheProfile) {
  ServerRig rig;
  rig.config.ca_subject_organization = {"ACME"};
  ASSERT_TRUE(rig.start());
  const Certificate& ca = *rig.core->ca().active_certificate();
  EXPECT_EQ(ca.subject_text(), "SERIALNUMBER=" + ca.serial_decimal() + ",O=ACME,C=US");
  EXPECT_EQ(ca.subject, ca.issuer);
  EXPECT_TRUE(ca.ca);
  EXPECT_EQ(ca.path_len, -1);
  EXPECT_EQ(ca.key_usage, kKeyCertSign | kCrlSign);
  EXPECT_EQ(ca.uris, std::vector<std::string>{"spiffe://example.org"});
  EXPECT_EQ(ca.subject_key_id, ca.key.key_id());
  EXPECT_TRUE(ca.authority_key_id.empty());
  EXPECT_EQ(ca.not_before, kStart - 10);
  EXPECT_EQ(ca.not_after, kStart + 24 * kHour);
  EXPECT_TRUE(ca.verify_signed_by(ca));
  ASSERT_NE(rig.core->bundles().own(), nullptr);
  EXPECT_EQ(rig.core->bundles().own()->sequence_number, 1u);
  EXPECT_EQ(rig.core->bundles().own()->x509_authorities, (std::vector<X509Authority>{{ca.der, false}}));
}

TEST(Ca, SignsLeavesThatVerifyAgainstTheBundleAndNeverOutliveIt) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  SvidRequest request = request_for("/web");
  request.dns_names = {"web.local", "www.local"};
  Certificate leaf = sign(rig, request);
  auto id = verify_chain({leaf}, *rig.core->bundles().roots(), rig.clock.now());
  ASSERT_TRUE(id) << id.error().message;
  EXPECT_EQ(id->text(), "spiffe://example.org/web");
  EXPECT_EQ(leaf.not_before, kStart - 10);
  EXPECT_EQ(leaf.not_after, kStart + kHour);
  EXPECT_EQ(leaf.key_usage, kDigitalSignature | kKeyEncipherment | kKeyAgreement);
  EXPECT_EQ(leaf.subject_text(), "CN=web.local,O=SPIRE,C=US");
  EXPECT_EQ(leaf.dns_names, request.dns_names);
  EXPECT_EQ(leaf.authority_key_id, rig.core->ca().active_certificate()->subject_key_id);
  EXPECT_FALSE(leaf.ca);
  EXPECT_EQ(sign(rig, request_for("/web", 1000 * kHour)).not_after, kStart + 24 * kHour);
}

TEST(Ca, AKeyThatIsAwayIsNamedInHealthUntilItSignsAgain) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  EXPECT_FALSE(rig.health.parts().contains("ca_key"));
  rig.keys.sign_failure = "TPM /dev/tpmrm0: no answer within 7 s";
  for (int i = 0; i < 2; ++i) {
    Signing signing;
    rig.core->ca().sign(request_for("/web"), signing.pending.then<&Signing::on_done>(&signing));
    rig.run();
    ASSERT_TRUE(signing.result && !*signing.result);
    EXPECT_EQ(signing.result->error().text(),
              "Unavailable: sign with the X.509 CA's key: TPM /dev/tpmrm0: no answer within 7 s");
    EXPECT_EQ(rig.health.parts().at("ca_key").state, HealthState::degraded);
    EXPECT_EQ(rig.health.parts().at("ca_key").reason, "Unavailable: TPM /dev/tpmrm0: no answer within 7 s");
  }
  rig.keys.sign_failure.clear();
  sign(rig, request_for("/web"));
  EXPECT_EQ(rig.health.parts().at("ca_key").state, HealthState::ok);
}

TEST(Ca, PreparesAtHalfOfItsLifeAndActivatesAtFiveSixths) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  const Bytes first = rig.core->ca().active_certificate()->der;
  pass_hours(rig, 11);
  EXPECT_EQ(rig.core->ca().next(), nullptr);
  pass_hours(rig, 2);
  ASSERT_NE(rig.core->ca().next(), nullptr);
  EXPECT_EQ(rig.core->ca().next()->slot_id, "B");
  EXPECT_EQ(rig.core->ca().active_certificate()->der, first);
  EXPECT_EQ(rig.core->bundles().own()->x509_authorities.size(), 2u);  // published before it signs
  EXPECT_EQ(rig.core->bundles().own()->sequence_number, 3u);          // root, JWT key, root, JWT key
  const Bytes second = rig.core->ca().next()->authority->certificate.der;
  pass_hours(rig, 6);
  EXPECT_EQ(rig.core->ca().active_certificate()->der, first);
  pass_hours(rig, 2);
  EXPECT_EQ(rig.core->ca().active_certificate()->der, second);
  EXPECT_EQ(rig.core->ca().next(), nullptr);
  auto id = verify_chain({sign(rig, request_for("/web"))}, *rig.core->bundles().roots(), rig.clock.now());
  EXPECT_TRUE(id);
  pass_hours(rig, 8);  // the next one goes into the slot that became free
  ASSERT_NE(rig.core->ca().next(), nullptr);
  EXPECT_EQ(rig.core->ca().next()->slot_id, "A");
}

TEST(Ca, ARestartFindsBothSlotsAgain) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  pass_hours(rig, 13);
  const Bytes active = rig.core->ca().active_certificate()->der;
  const Bytes next = rig.core->ca().next()->authority->certificate.der;
  const size_t generated = rig.keys.generated;
  ASSERT_TRUE(rig.start());
  EXPECT_EQ(rig.core->ca().active_certificate()->der, active);
  ASSERT_NE(rig.core->ca().next(), nullptr);
  EXPECT_EQ(rig.core->ca().next()->authority->certificate.der, next);
  pass_hours(rig, 8);
  EXPECT_EQ(rig.core->ca().active_certificate()->der, next);
  ASSERT_TRUE(rig.start());
  EXPECT_EQ(rig.core->ca().active_certificate()->der, next);
  EXPECT_EQ(rig.keys.generated, generated);
}

TEST(Ca, AnAuthorityWhoseKeyIsLostOrReplacedIsNotUsedAgain) {
  for (bool replaced : {false, true}) {
    ServerRig rig;
    ASSERT_TRUE(rig.start());
    const Bytes lost = rig.core->ca().active_certificate()->der;
    rig.core.reset();
    rig.keys.keys.clear();
    if (replaced) rig.keys.keys.emplace("x509-CA-A", copy_key(some_key(77)));
    ASSERT_TRUE(rig.start());
    EXPECT_NE(rig.core->ca().active_certificate()->der, lost);
    EXPECT_EQ(rig.core->bundles().own()->x509_authorities.size(), 2u);  // what it signed is still valid
    auto id = verify_chain({sign(rig, request_for("/web"))}, *rig.core->bundles().roots(), rig.clock.now());
    EXPECT_TRUE(id);
  }
}

TEST(Ca, ExpiredRootsLeaveTheBundleADayLaterButNeverTheOnesInUse) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  const Bytes first = rig.core->ca().active_certificate()->der;
  auto has_first = [&] {
    for (const X509Authority& root : rig.core->bundles().own()->x509_authorities) {
      if (root.der == first) return true;
    }
    return false;
  };
  pass_hours(rig, 47);
  EXPECT_TRUE(has_first());
  pass_hours(rig, 9);
  EXPECT_FALSE(has_first());
  EXPECT_GE(rig.core->bundles().own()->x509_authorities.size(), 1u);
}

TEST(Ca, AFailingKeyManagerOnlyDegradesARunningServer) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  rig.keys.failure = "token removed";
  pass_hours(rig, 11);
  for (int i = 0; i < 59; i++) rig.pass(60);
  EXPECT_EQ(rig.health.parts().at("ca").state, HealthState::ok);
  rig.pass(60);
  EXPECT_EQ(rig.health.parts().at("ca").state, HealthState::degraded);
  rig.pass(120);
  EXPECT_EQ(rig.health.parts().at("ca").state, HealthState::failed);  // more than ten attempts by now
  EXPECT_FALSE(sign(rig, request_for("/web")).der.empty());
  rig.keys.failure.clear();
  rig.pass(20);
  EXPECT_EQ(rig.health.parts().at("ca").state, HealthState::ok);
  EXPECT_NE(rig.core->ca().next(), nullptr);
}

TEST(Ca, ASignatureInFlightKeepsItsAuthorityThroughARotationAndMayBeForgotten) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  const Certificate first = *rig.core->ca().active_certificate();
  Signing kept;
  rig.core->ca().sign(request_for("/web"), kept.pending.then<&Signing::on_done>(&kept));
  {
    Signing forgotten;
    rig.core->ca().sign(request_for("/web"), forgotten.pending.then<&Signing::on_done>(&forgotten));
  }
  rig.run();
  ASSERT_TRUE(kept.result && *kept.result);
  EXPECT_TRUE(Certificate::parse((*kept.result)->chain.at(0))->verify_signed_by(first));
  Signing dropped;
  rig.core->ca().sign(request_for("/web"), dropped.pending.then<&Signing::on_done>(&dropped));
  rig.core.reset();
  rig.run();
  ASSERT_TRUE(dropped.result);
  EXPECT_FALSE(*dropped.result);
}

TEST(ServerSvid, IsRenewedAtHalfOfItsLifeWhileHandshakesKeepTheirSnapshot) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  auto identity = rig.core->tls().identity();
  ASSERT_NE(identity, nullptr);
  auto leaf = parse_chain(identity->chain);
  ASSERT_TRUE(leaf);
  auto id = verify_chain(*leaf, *rig.core->bundles().roots(), rig.clock.now());
  ASSERT_TRUE(id);
  EXPECT_EQ(id->text(), "spiffe://example.org/spire/server");
  for (int i = 0; i < 29; i++) rig.pass(60);
  EXPECT_EQ(rig.core->tls().identity(), identity);
  for (int i = 0; i < 3; i++) rig.pass(60);
  EXPECT_NE(rig.core->tls().identity(), identity);
  EXPECT_EQ(identity->chain.size(), 1u);
}

TEST(TlsPolicy, TakesClientsOfItsTrustDomainAndThoseWithoutACertificate) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  auto verifier = rig.core->tls().verifier();
  EXPECT_TRUE(verifier->verify({}));
  EXPECT_TRUE(verifier->verify({sign(rig, request_for("/spire/agent/join_token/t")).der}));
  EXPECT_FALSE(verifier->verify({rig.certificate("spiffe://example.org/x")}));  // not signed by the CA's key
  EXPECT_FALSE(verifier->verify({Bytes{1, 2, 3}}));
  EXPECT_FALSE(verifier->verify({rig.core->ca().active_certificate()->der}));
}

TEST(Profiles, ACommonNameIsReplacedAndEverythingElseKept) {
  Bytes name = encode_name({{kOidCountry, "FR"}, {kOidCommonName, "old"}, {kOidOrganization, std::string(60, 'o')}});
  auto replaced = with_common_name(name, "new");
  ASSERT_TRUE(replaced);
  EXPECT_EQ(*replaced,
            encode_name({{kOidCountry, "FR"}, {kOidOrganization, std::string(60, 'o')}, {kOidCommonName, "new"}}));
  std::string longest(200, 'x');
  EXPECT_TRUE(with_common_name(*replaced, longest));
  for (size_t cut = 0; cut < name.size(); cut++) {
    EXPECT_FALSE(with_common_name(BytesView(name).first(cut), "new")) << cut;
  }
}

}  // namespace
}  // namespace limpet::server::test
