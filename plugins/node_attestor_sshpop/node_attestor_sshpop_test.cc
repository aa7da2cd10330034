// SPDX-License-Identifier: Apache-2.0
#include "carriers.h"
#include "crypto/der.h"
#include "node_attestor_sshpop/ssh_key_file.h"
#include "node_attestor_sshpop/ssh_wire.h"
#include "plugin/node_attestor.h"
#include "support/fake_services.h"
#include "support/mint.h"

namespace limpet {
namespace {

using namespace test;
using namespace sshpop;

void put_text(Bytes& out, std::string_view text) { put_string(out, as_bytes(text)); }
void put_fixed(Bytes& out, uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

Bytes point_of(const PrivateKey& key) {
  der::Reader spki(der::single(key.public_key().spki(), der::kSequence)->content);
  EXPECT_TRUE(spki.next());
  return to_bytes(*der::read_octet_bits(spki.next()->content));
}

Bytes blob_of(const PrivateKey& key) {
  Bytes out;
  put_text(out, "ecdsa-sha2-nistp256");
  put_text(out, "nistp256");
  put_string(out, point_of(key));
  return out;
}

struct Host {
  uint32_t kind = kHostCertificate;
  std::vector<std::string> principals = {"web.example.org"};
  std::vector<std::string> options = {};
  uint64_t from = 100;
  uint64_t until = 200;
};

// A certificate for key 1 by key 0.
Bytes certificate(const Host& host) {
  const PrivateKey& authority = shared_key(KeyType::ec_p256, 0);
  Bytes out;
  put_text(out, "ecdsa-sha2-nistp256-cert-v01@openssh.com");
  put_text(out, "nonce");
  put_text(out, "nistp256");
  put_string(out, point_of(shared_key(KeyType::ec_p256, 1)));
  put_fixed(out, 7, 8);
  put_fixed(out, host.kind, 4);
  put_text(out, "id");
  Bytes list;
  for (const std::string& name : host.principals) put_text(list, name);
  put_string(out, list);
  put_fixed(out, host.from, 8);
  put_fixed(out, host.until, 8);
  list.clear();
  for (const std::string& name : host.options) {
    put_text(list, name);
    put_text(list, "");
  }
  put_string(out, list);
  put_text(out, "");
  put_text(out, "");
  put_string(out, blob_of(authority));
  const auto signature = sign(authority, out);
  EXPECT_TRUE(signature);
  list.clear();
  put_text(list, signature->format);
  put_string(list, signature->blob);
  put_string(out, list);
  return out;
}

std::string check(const Host& host, int64_t now = 150) {
  const auto parsed = SshCertificate::parse(certificate(host));
  if (!parsed) return parsed.error().message;
  return outcome(parsed->check_host("web.example.org", {blob_of(shared_key(KeyType::ec_p256, 0))}, now));
}

TEST(SshCertificate, IsReadAtNoLengthButItsOwn) {
  const Bytes good = certificate({});
  ASSERT_TRUE(SshCertificate::parse(good));
  for (size_t size = 0; size < good.size(); ++size) {
    const Bytes exact(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(SshCertificate::parse(exact)) << size;
  }
  Bytes longer = good;
  longer.push_back(0);
  EXPECT_FALSE(SshCertificate::parse(longer));
  EXPECT_FALSE(SshCertificate::parse(Bytes(20000, 0)));
}

TEST(SshCertificate, EachFlippedBitIsNoticed) {
  const Bytes good = certificate({});
  const std::vector<Bytes> authorities = {blob_of(shared_key(KeyType::ec_p256, 0))};
  for (size_t at = 0; at < good.size(); at += 3) {
    Bytes bad = good;
    bad[at] ^= 1;
    const auto parsed = SshCertificate::parse(bad);
    EXPECT_FALSE(parsed && parsed->check_host("web.example.org", authorities, 150)) << at;
  }
}

TEST(SshCertificate, IsJudgedAsGoJudgesIt) {
  const std::string bad = "InvalidArgument: ssh: ";
  EXPECT_EQ(check({}), "ok");
  EXPECT_EQ(check({.until = UINT64_MAX}), "ok");
  EXPECT_EQ(check({}, 99), bad + "cert is not yet valid");
  EXPECT_EQ(check({}, 200), bad + "cert has expired");
  EXPECT_EQ(check({.kind = 1}), bad + "certificate presented as a host key has type 1");
  EXPECT_EQ(check({.options = {"force-command"}}),
            bad + "unsupported critical option \"force-command\" in certificate");
  EXPECT_EQ(check({.principals = {"other"}}),
            bad + "principal \"web.example.org\" not in the set of valid principals for given certificate");
  EXPECT_EQ(check({.principals = std::vector<std::string>(65, "x")}), "ssh: more than 64 names in one list");
  EXPECT_EQ(outcome(SshCertificate::parse(certificate({}))
                        ->check_host("web.example.org", {blob_of(shared_key(KeyType::ec_p256, 1))}, 150)),
            bad + "no authorities for hostname: web.example.org:22");
}

// The certificate with another signature blob.
Bytes resigned(const SshCertificate& certificate, const Bytes& blob) {
  Bytes packed;
  put_text(packed, certificate.signature.format);
  put_string(packed, blob);
  Bytes out = certificate.body;
  put_string(out, packed);
  return out;
}

TEST(SshCertificate, HasJustOneTwinAndItIsAsValid) {
  const std::vector<Bytes> authorities = {blob_of(shared_key(KeyType::ec_p256, 0))};
  const auto first = SshCertificate::parse(certificate({}));
  ASSERT_TRUE(first);
  const auto wire = first->twin();
  ASSERT_TRUE(wire) << wire.error().text();
  EXPECT_NE(*wire, first->wire);
  const auto twin = SshCertificate::parse(*wire);
  ASSERT_TRUE(twin);
  EXPECT_EQ(outcome(twin->check_host("web.example.org", authorities, 150)), "ok");
  EXPECT_EQ(*twin->twin(), first->wire);

  WireReader reader(first->signature.blob);
  const Bytes r = to_bytes(*reader.string());
  const Bytes s = to_bytes(*reader.string());
  Bytes longer_r(2, 0);
  append(longer_r, r);
  Bytes longer_s(2, 0);
  append(longer_s, s);
  for (const auto& [one, two] : {std::pair(longer_r, s), std::pair(r, longer_s)}) {
    Bytes blob;
    put_string(blob, one);
    put_string(blob, two);
    const auto other = SshCertificate::parse(resigned(*first, blob));
    ASSERT_TRUE(other);
    EXPECT_EQ(outcome(other->check_host("web.example.org", authorities, 150)), "ok");
    EXPECT_EQ(outcome(other->twin()),
              "InvalidArgument: ssh: the numbers of the certificate's signature are not mpints");
  }
  Bytes high;  // the top bit without a zero before it: a negative number
  put_string(high, Bytes(32, 0x80));
  put_string(high, s);
  EXPECT_FALSE(SshCertificate::parse(resigned(*first, high))->twin());
}

class SshPop : public ShippedPlugin {
 protected:
  SshPop() : instance(create("node_attestor_sshpop", LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix)) {}
  ~SshPop() override { instance->close(); }
  Result<AttestStep> step(NodeAttestorServerSession& session, const std::string& said) {
    return wait<AttestStep>([&](Done<AttestStep> done) { session.step(to_bytes(said), std::move(done)); });
  }
  // One whole attempt with this certificate for key 1.
  Result<AttestStep> attempt(NodeAttestorServer& server, const Bytes& wire) {
    auto session = server.open("127.0.0.1");
    const auto asked = step(*session, R"({"Certificate":")" + base64_encode(wire) + "\"}");
    if (!asked) return asked;
    const std::string text(as_text(asked->challenge));
    const size_t at = std::string(R"({"Nonce":")").size();
    Bytes both = *base64_decode(text.substr(at, text.size() - at - 2));
    const Bytes nonce(kNonceBytes, 7);
    append(both, nonce);
    const auto proof = sign(shared_key(KeyType::ec_p256, 1), sha256(both));
    return step(*session, R"({"Nonce":")" + base64_encode(nonce) + R"(","Signature":{"Format":")" + proof->format +
                              R"(","Blob":")" + base64_encode(proof->blob) + "\"}}");
  }

  AgentTable agents{loop, services.agents};
  std::shared_ptr<Instance> instance;
};

TEST_P(SshPop, RefusesConfigurationsItDoesNotUnderstand) {
  const std::string line = "ecdsa-sha2-nistp256 " + base64_encode(blob_of(shared_key(KeyType::ec_p256, 0)));
  const auto server = [&](const std::string& json) { return outcome(configure(*instance, json)); };
  const std::string prefix = "InvalidArgument: nodeattestor(sshpop): ";
  EXPECT_EQ(server("{}"),
            prefix + "missing required config value for \"cert_authorities\" or \"cert_authorities_path\"");
  EXPECT_EQ(server(R"({"cert_authorities":["x"]})"),
            prefix + "cert_authorities[0]: ssh: no key found; expected \"<type> <base64>\"");
  EXPECT_EQ(server(R"({"cert_authorities":["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAA=="]})"),
            "Unimplemented: nodeattestor(sshpop): cert_authorities[0]: ssh: key type \"ssh-ed25519\" is not supported; "
            "use ssh-rsa, ecdsa-sha2-nistp256 or -nistp384");
  EXPECT_TRUE(server(R"({"cert_authorities_path":"/none"})").starts_with(prefix + "failed to get cert authorities"));
  EXPECT_EQ(server(R"({"cert_authorities":[")" + line + R"("],"agent_path_template":"/{{.Serial}}"})"),
            prefix + "agent_path_template: unknown field \".Serial\"; known: .PluginName, .Fingerprint, .Hostname");
  EXPECT_EQ(server(R"({"cert_authorities":[")" + line + R"( a comment"]})"), "ok");
}

TEST_P(SshPop, ACertificateWhoseTwinIsAnAgentIsRefused) {
  const std::string line = "ecdsa-sha2-nistp256 " + base64_encode(blob_of(shared_key(KeyType::ec_p256, 0)));
  const std::string keys = R"({"cert_authorities":[")" + line + "\"]";
  ASSERT_EQ(outcome(configure(*instance, keys + "}")), "ok");
  auto server = make_node_attestor_server(instance);
  const auto first = SshCertificate::parse(certificate({.until = UINT64_MAX}));
  const Bytes twin = *first->twin();
  const auto id_of = [](const Bytes& wire) {
    return "spiffe://example.org/spire/agent/sshpop/" + base64url_encode(sha256(wire));
  };
  const std::string otherwise =
      "PermissionDenied: nodeattestor(sshpop): this certificate with its signature written otherwise is the agent ";
  EXPECT_EQ(outcome(attempt(*server, first->wire)), "ok");
  EXPECT_EQ(agents.asked, std::vector<std::string>{id_of(twin)});
  agents.banned = {{id_of(first->wire), true}};
  EXPECT_EQ(outcome(attempt(*server, twin)), otherwise + id_of(first->wire) + ", which is banned");
  agents.banned = {{id_of(twin), false}};
  EXPECT_EQ(outcome(attempt(*server, first->wire)), otherwise + id_of(twin) + " already");
  agents.broken = true;
  EXPECT_EQ(outcome(attempt(*server, twin)), "Internal: nodeattestor(sshpop): unable to get agent info: bad row");
  ASSERT_EQ(outcome(configure(*instance, keys + R"(,"agent_path_template":"/sshpop/{{ .Hostname }}"})")), "ok");
  EXPECT_EQ(outcome(attempt(*server, twin)), "ok");  // both have the same name
  services.agents = nullptr;
  auto bare = create("node_attestor_sshpop", LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix);
  EXPECT_EQ(outcome(configure(*bare, keys + "}")),
            "FailedPrecondition: nodeattestor(sshpop): agents named by fingerprint: the host has no "
            "limpet.agent-store/1");
  bare->close();
}

BOTH_CARRIERS(SshPop);

}  // namespace
}  // namespace limpet
