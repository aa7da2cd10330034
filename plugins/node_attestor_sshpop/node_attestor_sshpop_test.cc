// SPDX-License-Identifier: Apache-2.0
#include "carriers.h"
#include "crypto/der.h"
#include "node_attestor_sshpop/ssh_key_file.h"
#include "node_attestor_sshpop/ssh_wire.h"
#include "plugin/node_attestor.h"
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

class SshPop : public ShippedPlugin {
 protected:
  SshPop() : instance(create("node_attestor_sshpop", LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix)) {}
  ~SshPop() override { instance->close(); }
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

BOTH_CARRIERS(SshPop);

}  // namespace
}  // namespace limpet
