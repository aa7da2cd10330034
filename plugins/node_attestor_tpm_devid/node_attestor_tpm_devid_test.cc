// SPDX-License-Identifier: Apache-2.0
// The server half against a TPM made of keys in memory, which can be made wrong in every place, and against what a TPM
// made for SPIRE's own code. Both halves against a software TPM: tests/integration/test_tpm_devid.py.
#include <ctime>

#include "carriers.h"
#include "kit/twin.h"
#include "node_attestor_tpm_devid/checks.h"
#include "node_attestor_tpm_devid/messages.h"
#include "plugin/node_attestor.h"
#include "soft_tpm.h"
#include "support/fake_services.h"
#include "support/mint.h"

namespace limpet::tpm_devid {
namespace {

using namespace test;

template <class T>
std::string said(const Result<T>& result) {
  return result ? "ok" : result.error().message;
}

std::string vector_text(const std::string& name) {
  return test::read_file(std::string(TEST_VECTORS) + "/tpm/devid_" + name + ".json");
}

// ---- what a TPM made for SPIRE's own code ----

TEST(TpmDevidVectors, AreReadCheckedAndWrittenAsTheyAre) {
  const std::string text = vector_text("payload");
  const auto payload = decode_payload(as_bytes(text));
  ASSERT_EQ(said(payload), "ok");
  EXPECT_EQ(encode_payload(*payload), text);
  const auto devid = Certificate::parse(payload->devid_chain.front());
  const auto ek = Certificate::parse(payload->ek_certificate);
  ASSERT_TRUE(devid && ek);
  EXPECT_EQ(said(check_residency(*payload, *devid, *ek)), "ok");
  const auto challenge = decode_challenge(as_bytes(vector_text("challenge")));
  ASSERT_EQ(said(challenge), "ok");
  EXPECT_EQ(challenge->credential.id_object.size(), 68u);
  EXPECT_EQ(challenge->credential.secret.size(), 256u);
  EXPECT_EQ(encode_challenge(*challenge), vector_text("challenge"));
  const auto response = decode_response(as_bytes(vector_text("response")));
  ASSERT_EQ(said(response), "ok");
  EXPECT_EQ(encode_response(*response), vector_text("response"));
  EXPECT_EQ(said(devid->key.verify(HashAlg::sha256, sha256(challenge->devid_nonce), response->devid_signature)), "ok");
}

TEST(TpmDevidMessages, MissingAndOverlongMembersAreRefused) {
  const std::string text = vector_text("payload");
  for (const char* name :
       {"DevIDCert", "DevIDPub", "EKCert", "EKPub", "AKPub", "CertifiedDevID", "CertificationSignature"}) {
    std::string without = text;
    const size_t at = without.find(std::string("\"") + name + "\"");
    ASSERT_NE(at, std::string::npos);
    without[at + 1] = '_';
    EXPECT_EQ(said(decode_payload(as_bytes(without))), std::string(name) + " is missing");
  }
  Payload payload = *decode_payload(as_bytes(text));
  payload.ak_public.resize(1025);
  EXPECT_EQ(said(decode_payload(as_bytes(encode_payload(payload)))), "AKPub is longer than 1024 bytes");
  payload.devid_chain.resize(6);
  EXPECT_EQ(said(decode_payload(as_bytes(encode_payload(payload)))), "json: DevIDCert has more than 5 items");
  EXPECT_EQ(said(decode_payload(Bytes(70'000, ' '))), "larger than 64 KiB");
  EXPECT_EQ(said(decode_challenge(as_bytes(std::string_view(R"({"DevID":"AAAA"})")))), "CredActivation is missing");
  EXPECT_EQ(said(decode_challenge(as_bytes(std::string_view(R"({"CredActivation":{}})")))), "DevID is missing");
  EXPECT_EQ(said(decode_response(as_bytes(std::string_view(R"({"DevID":"AAAA"})")))), "CredActivation is missing");
}

// ---- the server half ----

void now_valid(CertificateTemplate& cert) {
  cert.not_before = std::time(nullptr) - 60;
  cert.not_after = std::time(nullptr) + 3600;
}

constexpr uint32_t kDevidAttributes = 0x00040072;

class TpmDevid : public ShippedPlugin {
 protected:
  TpmDevid()
      : factory(make_root("factory", KeyType::ec_p256, 0, now_valid)),
        line(make_intermediate(factory, "line", 1, now_valid)),
        maker(make_root("maker", KeyType::ec_p256, 2, now_valid)),
        instance(create("node_attestor_tpm_devid", LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix)),
        server(make_node_attestor_server(instance)) {
    write(directory + "/devid.pem", pem_encode("CERTIFICATE", factory.certificate.der));
    write(directory + "/ek.pem", pem_encode("CERTIFICATE", maker.certificate.der));
    use(KeyType::rsa_2048, KeyType::rsa_2048);
  }
  ~TpmDevid() override { instance->close(); }

  // Makes the whole evidence of a machine with keys of these kinds; a test then spoils one part.
  void use(KeyType devid_type, KeyType ek_type) {
    devid = &shared_key(devid_type, 110);
    ek = &shared_key(ek_type, 111);
    CertificateTemplate leaf = leaf_template();
    leaf.subject = encode_name({{kOidCommonName, "gateway"}, {kOidSerialNumber, "0815"}});
    leaf.spki = devid->public_key().spki();
    leaf.uris.clear();
    CertificateTemplate endorsement = leaf_template();
    endorsement.spki = ek->public_key().spki();
    endorsement.uris.clear();
    payload.devid_chain = {issue(line, std::move(leaf), now_valid).der, line.certificate.der};
    payload.ek_certificate = issue(maker, std::move(endorsement), now_valid).der;
    payload.devid_public = public_area(devid->public_key(), kDevidAttributes);
    payload.ek_public = public_area(ek->public_key(), kEkAttributes);
    payload.ak_public = public_area(ak->public_key(), kAkAttributes);
    certify();
  }
  void certify() {
    AttestParts parts;
    parts.type = tpm_wire::kAttestCertify;
    parts.body = named_body(name_of(payload.devid_public), name_of({}));
    sign(test::attest(parts));
  }
  void sign(Bytes attestation) {
    payload.certified_devid = std::move(attestation);
    payload.certification_signature = tpm_signature(*ak, payload.certified_devid);
  }
  Result<AttestStep> step(NodeAttestorServerSession& session, const std::string& text) {
    return wait<AttestStep>([&](Done<AttestStep> done) { session.step(to_bytes(text), std::move(done)); });
  }
  Response respond(const Challenge& challenge) {
    const auto kind = tpm_wire::Protector::of(*tpm_wire::Public::parse(payload.ek_public));
    return {*devid->sign(HashAlg::sha256, sha256(challenge.devid_nonce)),
            activate(*kind, *ek, name_of(payload.ak_public), challenge.credential)};
  }
  std::string attest(const std::function<void(Response&)>& change = {}) {
    auto session = server->open("127.0.0.1");
    const auto asked = step(*session, encode_payload(payload));
    if (!asked) return asked.error().text();
    EXPECT_FALSE(asked->attested);
    const auto challenge = decode_challenge(asked->challenge);
    EXPECT_EQ(said(challenge), "ok");
    Response response = respond(*challenge);
    if (change) change(response);
    const auto verdict = step(*session, encode_response(response));
    if (!verdict) return verdict.error().text();
    EXPECT_TRUE(verdict->attested && verdict->can_reattest);
    EXPECT_EQ(verdict->agent_path, "/spire/agent/tpm_devid/" + hex_encode(sha1(payload.devid_chain.front())));
    std::string all;
    for (const std::string& selector : verdict->selectors) all += (all.empty() ? "" : " ") + selector;
    return all;
  }
  std::string config() {
    return R"({"devid_ca_path":")" + directory + R"(/devid.pem","endorsement_ca_path":")" + directory + "/ek.pem\"}";
  }
  static std::string invalid(const std::string& text) { return "InvalidArgument: nodeattestor(tpm_devid): " + text; }
  static std::string denied(const std::string& text) { return "PermissionDenied: nodeattestor(tpm_devid): " + text; }

  AgentTable agents{loop, services.agents};
  Authority factory;
  Authority line;
  Authority maker;
  std::shared_ptr<Instance> instance;
  std::unique_ptr<NodeAttestorServer> server;
  const PrivateKey* devid = nullptr;
  const PrivateKey* ek = nullptr;
  const PrivateKey* ak = &shared_key(KeyType::rsa_2048, 112);
  Payload payload;
};

TEST_P(TpmDevid, RefusesConfigurationsItDoesNotUnderstand) {
  const auto refused = [this](const std::string& json) { return outcome(configure(*instance, json)); };
  EXPECT_EQ(refused("{}"), invalid("devid_ca_path is required"));
  EXPECT_EQ(refused(R"({"devid_ca_path":")" + directory + "/devid.pem\"}"), invalid("endorsement_ca_path is required"));
  EXPECT_EQ(refused(R"({"devid_ca_path":"/none"})"),
            invalid("devid_ca_path: /none: cannot be opened: no such file or directory"));
  EXPECT_EQ(refused(R"({"ca":"x"})"), invalid("unknown key \"ca\"; known: devid_ca_path, endorsement_ca_path"));
  EXPECT_EQ(attest(), "FailedPrecondition: nodeattestor(tpm_devid): not configured");
}

TEST_P(TpmDevid, ACertifiedKeyInACertifiedTpmIsLetInForEachKindOfKey) {
  ASSERT_EQ(outcome(configure(*instance, config())), "ok");
  for (const KeyType devid_type : {KeyType::rsa_2048, KeyType::ec_p256, KeyType::ec_p384}) {
    for (const KeyType ek_type : {KeyType::rsa_2048, KeyType::ec_p256}) {
      use(devid_type, ek_type);
      EXPECT_EQ(attest(),
                "subject:cn:gateway subject:oid:2.5.4.3:gateway subject:oid:2.5.4.5:0815 issuer:cn:line "
                "ca:fingerprint:" +
                    hex_encode(sha1(line.certificate.der)) +
                    " ca:fingerprint:" + hex_encode(sha1(factory.certificate.der)));
    }
  }
}

TEST_P(TpmDevid, ADevidCertificateWhoseTwinIsAnAgentIsRefused) {
  ASSERT_EQ(outcome(configure(*instance, config())), "ok");
  const Bytes first = payload.devid_chain.front();
  const std::string id = "spiffe://example.org/spire/agent/tpm_devid/" + hex_encode(sha1(first));
  payload.devid_chain.front() = *kit::certificate_twin(*Certificate::parse(first), line.certificate.key);
  EXPECT_TRUE(attest().starts_with("subject:cn:gateway"));
  EXPECT_EQ(agents.asked, std::vector<std::string>{id});
  agents.banned = {{id, true}};
  const std::string text = "this certificate with its signature written otherwise is the agent " + id;
  EXPECT_EQ(attest(), denied(text + ", which is banned"));
  agents.banned = {{id, false}};
  EXPECT_EQ(attest(), denied(text + " already"));
  agents.broken = true;
  EXPECT_EQ(attest(), "Internal: nodeattestor(tpm_devid): unable to get agent info: bad row");
  services.agents = nullptr;
  auto bare = create("node_attestor_tpm_devid", LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix);
  EXPECT_EQ(outcome(configure(*bare, config())),
            "FailedPrecondition: nodeattestor(tpm_devid): the host has no limpet.agent-store/1");
  bare->close();
}

TEST_P(TpmDevid, CertificatesOfStrangersAreRefused) {
  ASSERT_EQ(outcome(configure(*instance, config())), "ok");
  const Payload good = payload;
  payload.devid_chain.pop_back();
  EXPECT_EQ(attest(), invalid("unable to verify DevID signature: x509: certificate signed by unknown authority"));
  payload = good;
  payload.devid_chain.front()[100] ^= 1;
  EXPECT_TRUE(attest().starts_with("InvalidArgument: ")) << attest();
  payload = good;
  payload.ek_certificate = good.devid_chain.front();
  EXPECT_TRUE(attest().ends_with("signed by an unknown authority")) << attest();
  payload = good;
  payload.ek_certificate.resize(20);
  EXPECT_TRUE(attest().starts_with(invalid("cannot parse endorsement certificate: "))) << attest();
}

TEST_P(TpmDevid, KeysThatAreNotTheCertifiedOnesAreRefused) {
  ASSERT_EQ(outcome(configure(*instance, config())), "ok");
  const Payload good = payload;
  payload.ek_public = public_area(shared_key(KeyType::rsa_2048, 113).public_key(), kEkAttributes);
  EXPECT_EQ(attest(), invalid("public key in EK certificate differs from public key created via EK template"));
  payload = good;
  payload.devid_public = public_area(shared_key(KeyType::rsa_2048, 113).public_key(), kDevidAttributes);
  certify();
  EXPECT_EQ(attest(), invalid("public key in DevID certificate differs from the certified DevID key"));
  payload = good;
  payload.ek_public = public_area(ek->public_key(), kAkAttributes);
  EXPECT_EQ(attest(), invalid("EKPub: the endorsement key is not a storage key (restricted, decrypt, AES)"));
}

TEST_P(TpmDevid, KeysThatATpmWouldNotKeepToItselfAreRefused) {
  ASSERT_EQ(outcome(configure(*instance, config())), "ok");
  const Payload good = payload;
  for (const auto& [bit, text] : std::initializer_list<std::pair<uint32_t, const char*>>{
           {tpm_wire::kFixedTpm, "AKPub: the key is not fixedTPM"},
           {tpm_wire::kFixedParent, "AKPub: the key is not fixedParent"},
           {tpm_wire::kRestricted, "AKPub: the key is not restricted"},
           {tpm_wire::kSensitiveDataOrigin, "AKPub: the key is not sensitiveDataOrigin"},
           {tpm_wire::kSign, "AKPub: the key is not sign"}}) {
    payload = good;
    payload.ak_public = public_area(ak->public_key(), kAkAttributes & ~bit);
    EXPECT_EQ(attest(), invalid(text));
  }
  payload = good;
  payload.ak_public = public_area(ak->public_key(), kAkAttributes | tpm_wire::kDecrypt);
  EXPECT_EQ(attest(), invalid("AKPub: the key may decrypt"));
  for (const auto& [bit, text] : std::initializer_list<std::pair<uint32_t, const char*>>{
           {tpm_wire::kFixedTpm, "DevIDPub: the key is not fixedTPM"},
           {tpm_wire::kFixedParent, "DevIDPub: the key is not fixedParent"}}) {
    payload = good;
    payload.devid_public = public_area(devid->public_key(), kDevidAttributes & ~bit);
    certify();
    EXPECT_EQ(attest(), invalid(text));
  }
}

TEST_P(TpmDevid, ACertificationThatIsNoneIsRefused) {
  ASSERT_EQ(outcome(configure(*instance, config())), "ok");
  const std::string prefix = "cannot verify that DevID is in the same TPM than AK: ";
  const Payload good = payload;
  payload.certification_signature = tpm_signature(*devid, payload.certified_devid);
  EXPECT_EQ(attest(), invalid(prefix + "signature does not match"));
  payload = good;
  AttestParts parts;
  parts.type = tpm_wire::kAttestCertify;
  parts.body = named_body(name_of(payload.ak_public), name_of({}));
  sign(test::attest(parts));
  EXPECT_EQ(attest(), invalid(prefix + "the certified key is another one"));
  parts.type = tpm_wire::kAttestCreation;
  parts.body = named_body(name_of(payload.devid_public), sha256({}));
  sign(test::attest(parts));
  EXPECT_EQ(attest(), invalid(prefix + "the attestation is not a certification"));
  parts.magic = 0;
  sign(test::attest(parts));
  EXPECT_EQ(attest(), invalid(prefix + "attestation: not made by a TPM (magic number)"));
}

TEST_P(TpmDevid, BothProofsAreNeededAndOnlyOneAnswerIsTaken) {
  ASSERT_EQ(outcome(configure(*instance, config())), "ok");
  const std::string wrong_key = denied("devID challenge verification failed: signature does not match");
  const std::string wrong_tpm = denied("credential activation failed: the TPM does not hold these two keys");
  EXPECT_EQ(attest([](Response& response) { response.devid_signature[9] ^= 1; }), wrong_key);
  EXPECT_EQ(attest([](Response& response) { response.secret[9] ^= 1; }), wrong_tpm);
  EXPECT_EQ(attest([](Response& response) { response.secret.pop_back(); }), wrong_tpm);
  EXPECT_EQ(attest([](Response& response) { response.secret.clear(); }),
            invalid("unable to unmarshall challenge response: CredActivation is missing"));
  auto session = server->open("127.0.0.1");
  const auto asked = step(*session, encode_payload(payload));
  ASSERT_EQ(outcome(asked), "ok");
  const std::string answer = encode_response(respond(*decode_challenge(asked->challenge)));
  EXPECT_EQ(outcome(step(*session, "{}")), invalid("unable to unmarshall challenge response: DevID is missing"));
  EXPECT_EQ(outcome(step(*session, answer)), invalid("the challenge was answered already"));
  auto second = server->open("127.0.0.1");
  ASSERT_EQ(outcome(step(*second, encode_payload(payload))), "ok");
  EXPECT_EQ(outcome(step(*second, answer)), wrong_key);  // of another conversation
}

INSTANTIATE_TEST_SUITE_P(Loaded, TpmDevid, ::testing::Values(Carrier::shared_object), carrier_name);

}  // namespace
}  // namespace limpet::tpm_devid
