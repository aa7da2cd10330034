// SPDX-License-Identifier: Apache-2.0
// The server half against a TPM made of keys in memory, which can be made wrong in every place.
// Both halves against a software TPM: tests/integration/test_tpm.py.
#include <ctime>

#include "boot_log.h"
#include "carriers.h"
#include "node_attestor_tpm/checks.h"
#include "node_attestor_tpm/messages.h"
#include "plugin/node_attestor.h"
#include "soft_tpm.h"
#include "support/fake_services.h"
#include "support/mint.h"

namespace limpet::tpm_attestor {
namespace {

using namespace test;
using tpm_wire::PcrBank;

template <class T>
std::string said(const Result<T>& result) {
  return result ? "ok" : result.error().message;
}

// A machine with a TPM, as honest as a test leaves it.
struct Machine {
  explicit Machine(KeyType type = KeyType::rsa_2048)
      : ek(shared_key(type, 100)), ak(shared_key(type, 101)), area(public_area(ak.public_key(), kAkAttributes)) {
    certify_creation();
  }
  void certify_creation() {
    AttestParts parts;
    parts.body = named_body(name_of(area), sha256(data));
    attestation = attest(parts);
    signature = tpm_signature(ak, attestation);
  }
  [[nodiscard]] Bytes payload() const {
    return to_bytes(encode_payload({ek_certificate, ek.public_key(), {area, data, attestation, signature}}));
  }
  [[nodiscard]] Response respond(const Challenge& challenge) const {
    Response out;
    out.secret = activate(*tpm_wire::Protector::of(ek.public_key()), ek, name_of(area), challenge.credential);
    if (challenge.quote) out.quote = quote(*challenge.quote);
    return out;
  }
  [[nodiscard]] QuoteAnswer quote(const QuoteRequest& request) const {
    QuoteAnswer out;
    for (const tpm_wire::PcrSelection& set : request.sets) {
      PcrBank bank{set.hash, {}};
      for (const uint32_t pcr : set.pcrs) bank.values[pcr] = pcrs.contains(pcr) ? pcrs.at(pcr) : Bytes(32);
      out.banks.push_back(std::move(bank));
    }
    AttestParts parts;
    parts.type = tpm_wire::kAttestQuote;
    parts.extra = request.nonce;
    parts.body = quote_body(out.banks);
    out.quote = attest(parts);
    out.signature = tpm_signature(ak, out.quote);
    if (request.event_log) out.event_log = event_log;
    return out;
  }
  const PrivateKey& ek;
  const PrivateKey& ak;
  Bytes ek_certificate = {};
  Bytes area;
  Bytes data = creation_data();
  Bytes attestation = {};
  Bytes signature = {};
  std::map<uint32_t, Bytes> pcrs = {};
  Bytes event_log = {};
};

class TpmServer : public ShippedPlugin {
 protected:
  TpmServer() {
    services.devices = &devices;
    instance = create("node_attestor_tpm", LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix);
    server = make_node_attestor_server(instance);
  }
  ~TpmServer() override { instance->close(); }

  // One step; a question for the enrollment list is answered on the way.
  Result<AttestStep> step(NodeAttestorServerSession& session, const Bytes& bytes) {
    Waiter<AttestStep> waiter;
    session.step(bytes, waiter.arm());
    for (int turn = 0; turn < 20'000 && !waiter.result; ++turn) {
      if (!devices.waiting.empty()) {
        EXPECT_EQ(devices.asked.back().first, "tpm");
        devices.waiting.back()(list_answer);
        devices.waiting.clear();
      }
      if (loop.run_ready() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return waiter.result ? std::move(*waiter.result) : Result<AttestStep>(fail(Code::deadline_exceeded, "gave up"));
  }
  // The whole conversation; `change` may spoil the response.
  std::string attest(const Machine& machine, const std::function<void(Response&)>& change = {}) {
    auto session = server->open("127.0.0.1");
    auto asked = step(*session, machine.payload());
    if (!asked) return asked.error().text();
    EXPECT_FALSE(asked->attested);
    const auto challenge = decode_challenge(asked->challenge);
    EXPECT_EQ(said(challenge), "ok");
    quoted = challenge->quote.has_value();
    Response response = machine.respond(*challenge);
    if (change) change(response);
    auto verdict = step(*session, to_bytes(encode_response(response)));
    if (!verdict) return verdict.error().text();
    EXPECT_TRUE(verdict->attested && verdict->can_reattest);
    EXPECT_EQ(verdict->agent_path, "/spire/agent/tpm/" + ek_hash(machine.ek.public_key()));
    std::string all;
    for (const std::string& selector : verdict->selectors) all += (all.empty() ? "" : " ") + selector;
    return all;
  }
  void start(const std::string& json = "{}") { ASSERT_EQ(outcome(configure(*instance, json)), "ok"); }
  void enroll() { list_answer = KnownDevice{true, "rack 7", 5}; }
  // A certificate of the machine's EK by `maker`, with the names that the profile asks for.
  static Bytes certificate_of(const Machine& machine, const Authority& maker, bool names = true) {
    const auto attribute = [](const char* oid, std::string_view text) {
      return der::element(der::kSet, der::sequence({der::oid(oid), der::element(der::kUtf8String, as_bytes(text))}));
    };
    CertificateTemplate cert = leaf_template();
    cert.subject = encode_name({});
    cert.spki = machine.ek.public_key().spki();
    cert.uris.clear();
    cert.not_before = std::time(nullptr) - 60;
    cert.not_after = std::time(nullptr) + 3600;
    const Bytes name = der::sequence({attribute("2.23.133.2.1", "id:49424D00"), attribute("2.23.133.2.2", "swtpm"),
                                      attribute("2.23.133.2.3", "id:20191023")});
    const Bytes value = der::element(der::kOctetString, der::sequence({der::element(0xa4, name)}));
    const Bytes extension = der::sequence({der::oid("2.5.29.17"), der::element(der::kBoolean, Bytes{0xff}), value});
    return issue(maker, std::move(cert), {}, names ? extension : Bytes()).der;
  }
  static Authority make_maker(int which = 0) {
    return make_root("maker", KeyType::ec_p256, which, [](CertificateTemplate& cert) {
      cert.not_before = std::time(nullptr) - 60;
      cert.not_after = std::time(nullptr) + 3600;
    });
  }
  void trust(const Authority& maker) {
    std::filesystem::create_directories(directory + "/ca/ignored");
    write(directory + "/ca/maker.pem", pem_encode("CERTIFICATE", maker.certificate.der));
  }
  void policies(const std::string& list) { write(directory + "/pcrs.json", "{\"policies\":[" + list + "]}"); }
  static std::string prefix(const std::string& code) { return code + ": nodeattestor(tpm): "; }

  FakeDevices devices;
  KnownDevice list_answer;  // nobody is enrolled
  std::shared_ptr<Instance> instance;
  std::unique_ptr<NodeAttestorServer> server;
  bool quoted = false;
};

TEST_P(TpmServer, RefusesConfigurationsItDoesNotUnderstand) {
  write(directory + "/file", "x");
  std::filesystem::create_directory(directory + "/empty");
  std::filesystem::create_directory(directory + "/bad");
  write(directory + "/bad/x", "no certificate");
  const std::string dir = directory;
  for (const auto& [json, text] : std::initializer_list<std::pair<std::string, std::string>>{
           {R"({"hash_path":"/none"})", "hash_path /none is not a directory"},
           {R"({"ca_path":"/none"})", "ca_path: /none: cannot be opened: no such file or directory"},
           {R"({"ca_path":")" + dir + "/empty\"}", "ca_path " + dir + "/empty: no certificate in it"},
           {R"({"ca_path":")" + dir + "/bad\"}",
            "ca_path: " + dir + "/bad/x: neither PEM nor DER: parse certificate: malformed DER"},
           {R"({"require_pcr_policy":true})", "require_pcr_policy needs pcr_policy_path"},
           {R"({"pcr_policy_path":")" + dir + "/file\"}",
            "pcr_policy_path: " + dir + "/file: not valid JSON: unexpected character"},
           {R"({"hash":1})",
            "unknown key \"hash\"; known: ca_path, event_log, hash_path, pcr_policy_path, require_enrollment, "
            "require_pcr_policy"},
       }) {
    EXPECT_TRUE(outcome(configure(*instance, json)).starts_with(prefix("InvalidArgument") + text))
        << outcome(configure(*instance, json));
  }
  EXPECT_EQ(outcome(configure(*instance, "{}", true)), "ok");
  EXPECT_EQ(attest(Machine()), prefix("FailedPrecondition") + "not configured");
}

TEST_P(TpmServer, AnEnrolledTpmIsLetInForEachKindOfKey) {
  start();
  for (const KeyType type : {KeyType::rsa_2048, KeyType::ec_p256, KeyType::ec_p384}) {
    list_answer = {};
    const Machine machine(type);
    const std::string hash = ek_hash(machine.ek.public_key());
    EXPECT_EQ(attest(machine), prefix("PermissionDenied") + "tpm: could not validate EK " + hash +
                                   ": it is not enrolled (limpet tpm enroll -hash " + hash +
                                   "); certificate: the TPM has no certificate");
    EXPECT_EQ(devices.asked.back().second, hash);
    enroll();
    EXPECT_EQ(attest(machine), "pub_hash:" + hash);
    EXPECT_FALSE(quoted);
  }
}

TEST_P(TpmServer, AnEnrollmentListThatCannotBeReadLetsNobodyIn) {
  start();
  auto session = server->open("127.0.0.1");
  Waiter<AttestStep> waiter;
  session->step(Machine().payload(), waiter.arm());
  for (int turn = 0; turn < 10'000 && !waiter.result; ++turn) {
    if (!devices.waiting.empty()) devices.waiting.back()(fail(Code::data_loss, "a damaged row"));
    devices.waiting.clear();
    if (loop.run_ready() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_TRUE(waiter.result);
  EXPECT_EQ(outcome(*waiter.result), prefix("DataLoss") + "enrollment: a damaged row");
}

TEST_P(TpmServer, StopsWhileItWaitsForTheList) {
  start();
  auto session = server->open("127.0.0.1");
  Waiter<AttestStep> waiter;
  session->step(Machine().payload(), waiter.arm());
  for (int turn = 0; turn < 10'000 && devices.waiting.empty(); ++turn) {
    if (loop.run_ready() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_FALSE(devices.waiting.empty());
  instance->close();
  ASSERT_TRUE(waiter.result);
  EXPECT_EQ(waiter.result->error().code, Code::unavailable);
}

TEST_P(TpmServer, AFileNamedByTheHashEnrolls) {
  std::filesystem::create_directory(directory + "/hashes");
  start(R"({"hash_path":")" + directory + "/hashes\"}");
  const Machine machine;
  const std::string hash = ek_hash(machine.ek.public_key());
  EXPECT_TRUE(attest(machine).starts_with(prefix("PermissionDenied"))) << hash;
  write(directory + "/hashes/" + hash, "");
  EXPECT_EQ(attest(machine), "pub_hash:" + hash);
}

TEST_P(TpmServer, ACertificateOfATrustedMakerLetsInAndSaysWhatTheTpmIs) {
  const Authority maker = make_maker();
  trust(maker);
  start(R"({"ca_path":")" + directory + "/ca\"}");
  Machine machine;
  const std::string hash = ek_hash(machine.ek.public_key());
  const std::string denied = prefix("PermissionDenied") + "tpm: could not validate EK " + hash +
                             ": it is not enrolled (limpet tpm enroll -hash " + hash + "); certificate: ";
  machine.ek_certificate = certificate_of(machine, maker);
  const std::string all = "pub_hash:" + hash + " manufacturer:id:49424D00 model:swtpm version:id:20191023";
  EXPECT_EQ(attest(machine), all);
  append(machine.ek_certificate, Bytes(40));  // the rest of the area in the TPM
  EXPECT_EQ(attest(machine), all);
  machine.ek_certificate = certificate_of(machine, make_maker(1));
  EXPECT_EQ(attest(machine), denied + "endorsement key certificate of : signed by an unknown authority");
  machine.ek_certificate = certificate_of(machine, maker, false);
  EXPECT_EQ(attest(machine), denied + "endorsement key certificate: no subject alternative name");
  machine.ek_certificate = Bytes{0x30, 0x03, 1, 1, 1};
  EXPECT_EQ(attest(machine), denied + "parse certificate: malformed DER");
  enroll();  // then a certificate that cannot be read does no harm
  EXPECT_EQ(attest(machine), "pub_hash:" + hash);
}

TEST_P(TpmServer, WithRequireEnrollmentACertificateIsNotEnough) {
  const Authority maker = make_maker();
  trust(maker);
  start(R"({"ca_path":")" + directory + "/ca\",\"require_enrollment\":true}");
  Machine machine;
  machine.ek_certificate = certificate_of(machine, maker);
  const std::string hash = ek_hash(machine.ek.public_key());
  EXPECT_EQ(attest(machine), prefix("PermissionDenied") + "tpm: could not validate EK " + hash +
                                 ": it is not enrolled (limpet tpm enroll -hash " + hash + ")");
  enroll();
  EXPECT_EQ(attest(machine), "pub_hash:" + hash + " manufacturer:id:49424D00 model:swtpm version:id:20191023");
}

TEST_P(TpmServer, ADeviceThatIsRemovedBeforeItAnswersIsNotLetIn) {
  const Authority maker = make_maker();
  trust(maker);
  std::filesystem::create_directory(directory + "/hashes");
  Machine machine;
  const std::string hash = ek_hash(machine.ek.public_key());
  const std::string removed =
      prefix("PermissionDenied") + "tpm: could not validate EK " + hash + ": its enrolment was removed meanwhile";
  const auto remove = [&](Response&) {
    list_answer = {};
    std::filesystem::remove(directory + "/hashes/" + hash);
  };
  const std::string paths = R"({"hash_path":")" + directory + R"(/hashes","ca_path":")" + directory + "/ca\"";
  start(paths + "}");
  enroll();
  EXPECT_EQ(attest(machine, remove), removed);
  write(directory + "/hashes/" + hash, "");
  EXPECT_EQ(attest(machine, remove), removed);

  machine.ek_certificate = certificate_of(machine, maker);
  const std::string all = "pub_hash:" + hash + " manufacturer:id:49424D00 model:swtpm version:id:20191023";
  enroll();
  EXPECT_EQ(attest(machine, remove), all) << "the certificate lets it in";
  enroll();
  const auto remove_and_require = [&](Response& response) {
    remove(response);
    start(paths + ",\"require_enrollment\":true}");
  };
  EXPECT_EQ(attest(machine, remove_and_require), removed) << "what is configured now counts";
  enroll();
  EXPECT_EQ(attest(machine, remove), removed);
  enroll();
  EXPECT_EQ(attest(machine), all);
}

TEST_P(TpmServer, ACertificateOfAnotherKeyIsRefusedEvenIfEnrolled) {
  const Authority maker = make_maker();
  start();
  enroll();
  Machine machine;
  machine.ek_certificate = certificate_of(Machine(KeyType::ec_p256), maker);
  EXPECT_EQ(attest(machine), prefix("PermissionDenied") +
                                 "failed to unmarshal attestation data: EK: the certificate is that of another key");
}

TEST_P(TpmServer, AttestationKeysThatATpmWouldNotKeepToItselfAreRefused) {
  start();
  enroll();
  struct Case {
    uint32_t attributes;
    const char* text;
  };
  for (const Case& one :
       {Case{kAkAttributes & ~tpm_wire::kFixedTpm, "AK: the key is not fixedTPM"},
        Case{kAkAttributes & ~tpm_wire::kFixedParent, "AK: the key is not fixedParent"},
        Case{kAkAttributes & ~tpm_wire::kRestricted, "AK: the key is not restricted"},
        Case{kAkAttributes & ~tpm_wire::kSensitiveDataOrigin, "AK: the key is not sensitiveDataOrigin"},
        Case{kAkAttributes & ~tpm_wire::kSign, "AK: the key is not sign"},
        Case{kAkAttributes | tpm_wire::kDecrypt, "AK: the key may decrypt"}}) {
    Machine machine;
    machine.area = public_area(machine.ak.public_key(), one.attributes);
    machine.certify_creation();
    EXPECT_EQ(attest(machine), prefix("InvalidArgument") + one.text);
  }
  Machine other_data;
  other_data.data.back() ^= 1;
  EXPECT_TRUE(attest(other_data).starts_with(prefix("InvalidArgument") + "AK: creation data:"));
  Machine changed_data;
  changed_data.data = creation_data(0x40000001);
  EXPECT_EQ(attest(changed_data), prefix("InvalidArgument") + "AK: the creation data is not what was attested");
  Machine other_name;
  AttestParts parts;
  parts.body = named_body(name_of(as_bytes("another key")), sha256(other_name.data));
  other_name.attestation = test::attest(parts);
  other_name.signature = tpm_signature(other_name.ak, other_name.attestation);
  EXPECT_EQ(attest(other_name), prefix("InvalidArgument") + "AK: the attested key is another one");
  Machine certify;
  parts.type = tpm_wire::kAttestCertify;
  parts.body = named_body(name_of(certify.area), sha256(certify.data));
  certify.attestation = test::attest(parts);
  certify.signature = tpm_signature(certify.ak, certify.attestation);
  EXPECT_EQ(attest(certify), prefix("InvalidArgument") + "AK: the attestation is not one of a creation");
  Machine forged;
  forged.signature = tpm_signature(forged.ek, forged.attestation);
  EXPECT_EQ(attest(forged), prefix("InvalidArgument") + "AK: signature does not match");
  Machine mixed;
  mixed.signature = tpm_signature(shared_key(KeyType::ec_p256, 101), mixed.attestation);
  EXPECT_EQ(attest(mixed), prefix("InvalidArgument") + "AK: the signature is of another kind than the key");
}

TEST_P(TpmServer, OnlyTheRightSecretIsTakenAndOnlyOnce) {
  start();
  enroll();
  const Machine machine;
  const std::string wrong =
      prefix("PermissionDenied") + "the challenge response is wrong: the TPM does not hold these two keys";
  EXPECT_EQ(attest(machine, [](Response& response) { response.secret[31] ^= 1; }), wrong);
  EXPECT_EQ(attest(machine, [](Response& response) { response.secret.pop_back(); }), wrong);
  EXPECT_EQ(attest(machine, [](Response& response) { response.secret.push_back(0); }), wrong);
  auto session = server->open("127.0.0.1");
  const auto asked = step(*session, machine.payload());
  ASSERT_EQ(outcome(asked), "ok");
  Response response = machine.respond(*decode_challenge(asked->challenge));
  Response bad = response;
  bad.secret[0] ^= 1;
  EXPECT_EQ(outcome(step(*session, to_bytes(encode_response(bad)))), wrong);
  EXPECT_EQ(outcome(step(*session, to_bytes(encode_response(response)))),
            prefix("InvalidArgument") + "the challenge was answered already");
  // of another conversation
  auto second = server->open("127.0.0.1");
  ASSERT_EQ(outcome(step(*second, machine.payload())), "ok");
  EXPECT_EQ(outcome(step(*second, to_bytes(encode_response(response)))), wrong);
  auto third = server->open("127.0.0.1");
  ASSERT_EQ(outcome(step(*third, machine.payload())), "ok");
  EXPECT_EQ(outcome(step(*third, to_bytes("{}"))),
            prefix("InvalidArgument") + "unable to unmarshal challenge response: Secret is missing");
}

// ---- PCRs ----

std::string digest_of(std::initializer_list<Bytes> values) {
  Bytes all;
  for (const Bytes& value : values) append(all, value);
  return hex_encode(sha256(all));
}

TEST_P(TpmServer, APolicyThatTheMachineMeetsBecomesASelector) {
  Machine machine;
  machine.pcrs = {{0, Bytes(32, 1)}, {7, Bytes(32, 2)}};
  const std::string good = digest_of({Bytes(32, 1), Bytes(32, 2)});
  const std::string next = digest_of({Bytes(32, 1), Bytes(32, 3)});
  policies(R"({"name":"slot","pcrs":[0,7],"accepted":[")" + good + "\",\"" + next +
           R"("]},{"name":"other","pcrs":[1],"accepted":[")" + good +
           R"("]},{"name":"seen","pcrs":[0],"mode":"observe"})");
  start(R"({"pcr_policy_path":")" + directory + "/pcrs.json\"}");
  enroll();
  const std::string hash = "pub_hash:" + ek_hash(machine.ek.public_key());
  EXPECT_EQ(attest(machine), hash + " pcr_policy:slot fw_version:7.85");
  EXPECT_TRUE(quoted);
  machine.pcrs[7] = Bytes(32, 3);  // the other slot
  EXPECT_EQ(attest(machine), hash + " pcr_policy:slot fw_version:7.85");
  machine.pcrs[7] = Bytes(32, 4);
  EXPECT_EQ(attest(machine), hash + " fw_version:7.85");
  // a change of the file holds from the next attestation on
  policies(R"({"name":"new","pcrs":[7],"accepted":[")" + digest_of({Bytes(32, 4)}) + "\"]}");
  EXPECT_EQ(attest(machine), hash + " pcr_policy:new fw_version:7.85");
  policies("5");  // a slip: what was read before stays in force
  EXPECT_EQ(attest(machine), hash + " pcr_policy:new fw_version:7.85");
}

TEST_P(TpmServer, OutsideTheEndorsementHierarchyTheFirmwareVersionMeansNothing) {
  Machine machine;
  machine.data = creation_data(0x40000001);
  machine.certify_creation();
  policies(R"({"name":"seen","pcrs":[0],"mode":"observe"})");
  start(R"({"pcr_policy_path":")" + directory + "/pcrs.json\"}");
  enroll();
  EXPECT_EQ(attest(machine), "pub_hash:" + ek_hash(machine.ek.public_key()));
}

TEST_P(TpmServer, WithRequirePcrPolicyAMachineThatMeetsNoneIsRefused) {
  const Machine machine;
  const std::string zeros = digest_of({Bytes(32)});
  policies(R"({"name":"p","pcrs":[0],"accepted":[]},{"name":"q","pcrs":[1],"mode":"observe","accepted":[")" + zeros +
           "\"]}");
  start(R"({"pcr_policy_path":")" + directory + "/pcrs.json\",\"require_pcr_policy\":true}");
  enroll();
  EXPECT_EQ(attest(machine), prefix("PermissionDenied") +
                                 "require_pcr_policy: the machine's PCRs match no policy; p=" + zeros + " q=" + zeros);
  EXPECT_EQ(attest(machine, [](Response& response) { response.quote.reset(); }),
            prefix("PermissionDenied") +
                "require_pcr_policy: the machine's PCRs match no policy; p (bank sha256 was not "
                "quoted) q (bank sha256 was not quoted)");
  // an agent of SPIRE's cannot quote
  auto session = server->open("127.0.0.1");
  std::string payload(as_text(machine.payload()));
  payload.replace(payload.find("\"Quote\":true"), 12, "\"Quote\":null");
  EXPECT_EQ(outcome(step(*session, to_bytes(payload))),
            prefix("PermissionDenied") + "require_pcr_policy: this agent does not quote PCRs");
}

// Nothing to ask for is no reason to let everybody in.
TEST_P(TpmServer, WithRequirePcrPolicyAFileWithoutPoliciesLetsNobodyIn) {
  const Machine machine;
  const std::string json = R"({"pcr_policy_path":")" + directory + "/pcrs.json\",\"require_pcr_policy\":true}";
  policies("");
  const std::string refused = outcome(configure(*instance, json));
  EXPECT_EQ(refused, prefix("InvalidArgument") + "require_pcr_policy: " + directory +
                         "/pcrs.json names no policy, so that no agent could attest");
  policies(R"({"name":"p","pcrs":[0],"accepted":[")" + digest_of({Bytes(32)}) + "\"]}");
  start(json);
  enroll();
  const std::string hash = "pub_hash:" + ek_hash(machine.ek.public_key());
  EXPECT_EQ(attest(machine), hash + " pcr_policy:p fw_version:7.85");
  policies("");  // emptied later
  EXPECT_EQ(attest(machine),
            prefix("PermissionDenied") + "require_pcr_policy: " + directory + "/pcrs.json names no policy");
}

TEST_P(TpmServer, AQuoteThatIsNotTheAnswerIsRefused) {
  Machine machine;
  machine.pcrs = {{0, Bytes(32, 1)}};
  policies(R"({"name":"p","pcrs":[0],"accepted":[")" + digest_of({Bytes(32, 1)}) + "\"]}");
  start(R"({"pcr_policy_path":")" + directory + "/pcrs.json\"}");
  enroll();
  const std::string denied = prefix("PermissionDenied") + "PCR quote: ";
  using Change = std::function<void(Response&)>;
  const auto quote = [&machine](const QuoteRequest& request) {
    return [&machine, request](Response& response) {
      QuoteRequest changed = request;
      if (changed.nonce.empty()) changed.nonce = tpm_wire::Attest::parse(response.quote->quote)->extra_data;
      response.quote = machine.quote(changed);
    };
  };
  for (const auto& [change, text] : std::initializer_list<std::pair<Change, const char*>>{
           {[](Response& r) { r.quote->banks[0].values[0] = Bytes(32, 9); },
            "the PCR values are not those that were quoted"},
           {[](Response& r) { r.quote->banks[0].values[0] = Bytes(20, 1); },
            "PCR 0 of bank sha256 is missing or malformed"},
           {[](Response& r) { r.quote->banks[0].hash = tpm_wire::kAlgSha384; }, "bank sha384 was not asked for"},
           {[](Response& r) { r.quote->banks.push_back(r.quote->banks[0]); },
            "the quote is over other PCRs than those of the answer"},
           {[](Response& r) { r.quote->banks[0].values.clear(); },
            "the quote is over other PCRs than those of the answer"},
           {[](Response& r) { r.quote->signature = tpm_signature(shared_key(KeyType::rsa_2048, 100), r.quote->quote); },
            "signature does not match"},
           {[&machine](Response& r) {
              r.quote->quote = machine.attestation;
              r.quote->signature = machine.signature;
            },
            "the attestation is not a quote"},
           {quote({Bytes(32, 5), {{tpm_wire::kAlgSha256, {0}}}, false}), "the quote answers another challenge"},
           {quote({{}, {{tpm_wire::kAlgSha256, {1}}}, false}), "PCR 1 of bank sha256 was not asked for"},
           {quote({{}, {{tpm_wire::kAlgSha256, {0, 1}}}, false}), "PCR 1 of bank sha256 was not asked for"},
       }) {
    EXPECT_EQ(attest(machine, change), denied + text);
  }
}

// A bank that is switched off, or a PCR that never stands still.
TEST_P(TpmServer, APolicyOnWhatTheTpmCannotQuoteIsNotMetAndKeepsNobodyOut) {
  const Machine machine;
  const std::string zeros = digest_of({Bytes(32)});
  const auto only = [&machine](std::vector<uint32_t> pcrs) {
    return [&machine, pcrs](Response& response) {
      const Bytes nonce = tpm_wire::Attest::parse(response.quote->quote)->extra_data;
      response.quote = machine.quote({nonce, {{tpm_wire::kAlgSha256, pcrs}}, false});
    };
  };
  const auto none = [](Response& response) { response.quote.reset(); };
  const std::string file = R"({"name":"p","pcrs":[0],"accepted":[")" + zeros +
                           R"("]},{"name":"busy","pcrs":[10],"accepted":[")" + zeros +
                           R"("]},{"name":"wide","bank":"sha384","pcrs":[0],"accepted":[]})";
  policies(file);
  start(R"({"pcr_policy_path":")" + directory + "/pcrs.json\"}");
  enroll();
  const std::string hash = "pub_hash:" + ek_hash(machine.ek.public_key());
  EXPECT_EQ(attest(machine, only({0, 10})), hash + " pcr_policy:p pcr_policy:busy fw_version:7.85");
  EXPECT_EQ(attest(machine, only({0})), hash + " pcr_policy:p fw_version:7.85");
  EXPECT_EQ(attest(machine, none), hash);
  start(R"({"pcr_policy_path":")" + directory + "/pcrs.json\",\"require_pcr_policy\":true}");
  EXPECT_EQ(attest(machine, only({0})), hash + " pcr_policy:p fw_version:7.85");
  const std::string denied = prefix("PermissionDenied") + "require_pcr_policy: the machine's PCRs match no policy;";
  policies(R"({"name":"p","pcrs":[0],"accepted":[]})" + file.substr(file.find(",{\"name\":\"busy")));
  EXPECT_EQ(attest(machine, only({0})), denied + " p=" + zeros + " busy (PCR 10 of bank sha256 was not quoted)" +
                                            " wide (bank sha384 was not quoted)");
  EXPECT_EQ(attest(machine, none), denied + " p (bank sha256 was not quoted) busy (bank sha256 was not quoted)" +
                                       " wide (bank sha384 was not quoted)");
}

TEST_P(TpmServer, SecureBootFollowsFromAnEventLogThatLeadsToTheQuote) {
  start(R"({"event_log":true})");
  enroll();
  Machine machine;
  const std::string all = "pub_hash:" + ek_hash(machine.ek.public_key()) + " fw_version:7.85";
  EXPECT_EQ(attest(machine), all);  // no log: a board without UEFI
  EXPECT_TRUE(quoted);
  for (const bool on : {true, false}) {
    const BootLog log = BootLog::usual(on);
    machine.event_log = log.bytes();
    machine.pcrs = log.bank().values;
    EXPECT_EQ(attest(machine), all + " eventlog:verified" + (on ? " secureboot:enabled" : " secureboot:disabled"));
  }
  BootLog odd = BootLog::usual(true);  // it leads to the quote, and secure boot cannot be told from it
  odd.plain(7, BootLog::kConfig, variable_data("PK", Bytes(3)));
  machine.event_log = odd.bytes();
  machine.pcrs = odd.bank().values;
  EXPECT_EQ(attest(machine), all + " eventlog:verified");
  machine.event_log = BootLog::usual(true).bytes();  // of another boot
  EXPECT_EQ(attest(machine), all);
}

INSTANTIATE_TEST_SUITE_P(Loaded, TpmServer, ::testing::Values(Carrier::shared_object), carrier_name);

}  // namespace
}  // namespace limpet::tpm_attestor
