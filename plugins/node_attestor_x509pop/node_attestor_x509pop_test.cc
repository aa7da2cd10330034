// SPDX-License-Identifier: Apache-2.0
#include <ctime>

#include "carriers.h"
#include "kit/twin.h"
#include "node_attestor_x509pop/proof.h"
#include "plugin/node_attestor.h"
#include "support/fake_services.h"
#include "support/mint.h"

namespace limpet {
namespace {

using namespace test;

void now_valid(CertificateTemplate& cert) {
  cert.not_before = std::time(nullptr) - 60;
  cert.not_after = std::time(nullptr) + 3600;
  cert.serial = random_serial();
}

// Both halves, over files in the test's directory.
class X509Pop : public ShippedPlugin {
 protected:
  X509Pop()
      : root(make_root("factory", KeyType::ec_p256, 0, now_valid)),
        middle(make_intermediate(root, "line", 1, now_valid)),
        agent_instance(create("node_attestor_x509pop", LIMPET_NODE_ATTESTOR_AGENT, kNodeAttestorPrefix)),
        server_instance(create("node_attestor_x509pop", LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix)) {
    put("roots", root.certificate);
    put("line", middle.certificate);
    device(KeyType::ec_p256);
  }
  ~X509Pop() override {
    agent_instance->close();
    server_instance->close();
  }
  void put(const std::string& name, const Certificate& certificate) {
    write(directory + "/" + name, pem_encode("CERTIFICATE", certificate.der));
  }
  void device(KeyType type) {
    put("cert", issue(middle, leaf_template(type), now_valid));
    const SecretBytes key = shared_key(type, 100).pkcs8();
    write(directory + "/key", pem_encode("PRIVATE KEY", BytesView(key.view())));
  }
  std::string agent_config() {
    return R"({"private_key_path":")" + directory + R"(/key","certificate_path":")" + directory +
           R"(/cert","intermediates_path":")" + directory + "/line\"}";
  }
  std::string server_config(const std::string& more = "") {
    return R"({"ca_bundle_path":")" + directory + "/roots\"" + more + "}";
  }
  Result<Bytes> payload(NodeAttestorAgentSession& session) {
    return wait<Bytes>([&](Done<Bytes> done) { session.payload(std::move(done)); });
  }
  Result<Bytes> answer(NodeAttestorAgentSession& session, const Bytes& challenge) {
    return wait<Bytes>([&](Done<Bytes> done) { session.answer(challenge, std::move(done)); });
  }
  Result<AttestStep> step(NodeAttestorServerSession& session, const Bytes& said) {
    return wait<AttestStep>([&](Done<AttestStep> done) { session.step(said, std::move(done)); });
  }

  // One whole attempt, begun with this payload.
  Result<AttestStep> attempt(NodeAttestorAgent& agent, NodeAttestorServer& server, const Bytes& said) {
    auto ours = agent.open();
    auto theirs = server.open("127.0.0.1");
    if (auto mine = payload(*ours); !mine) return fail(mine.error());
    const auto asked = step(*theirs, said);
    if (!asked) return asked;
    const auto proof = answer(*ours, asked->challenge);
    if (!proof) return fail(proof.error());
    return step(*theirs, *proof);
  }

  AgentTable agents{loop, services.agents};
  Authority root;
  Authority middle;
  std::shared_ptr<Instance> agent_instance;
  std::shared_ptr<Instance> server_instance;
};

TEST_P(X509Pop, RefusesConfigurationsItDoesNotUnderstand) {
  const auto refused = [](Instance& instance, const Result<void>& result, const std::string& text) {
    EXPECT_EQ(outcome(result), "InvalidArgument: nodeattestor(x509pop): " + text) << instance.name();
  };
  const auto server = [&](const std::string& json, const std::string& text) {
    refused(*server_instance, configure(*server_instance, json), text);
  };
  refused(*agent_instance, configure(*agent_instance, "{}"),
          "private_key_path is required, or key_id for a key of the key manager");
  refused(*agent_instance,
          configure(*agent_instance, R"({"private_key_path":"x","key_id":"y","certificate_path":"z"})"),
          "set private_key_path or key_id, not both");
  refused(*agent_instance, configure(*agent_instance, R"({"key_id":"y"})"), "certificate_path is required");
  refused(*agent_instance, configure(*agent_instance, R"({"private_key_path":"x"})"), "certificate_path is required");
  server("{}", "one of ca_bundle_path or ca_bundle_paths must be configured");
  server(R"({"ca_bundle_path":"a","ca_bundle_paths":["b"]})",
         "only one of ca_bundle_path or ca_bundle_paths can be configured, not both");
  server(R"({"ca_bundle_paths":[5]})", "ca_bundle_paths must be a list of strings");
  server(R"({"ca_bundle_path":"/none"})",
         "unable to load trust bundle: /none: cannot be opened: no such file or directory");
  server(server_config(R"(,"mode":"other")"), "mode must be \"external_pki\" or \"spiffe\", not \"other\"");
  server(server_config(R"(,"spiffe_prefix":"/x")"), "spiffe_prefix needs mode = \"spiffe\"");
  server(server_config(R"(,"svid_prefix":"")"), "spiffe_prefix needs mode = \"spiffe\"");
  server(server_config(R"(,"mode":"spiffe")"),
         "ca_bundle_path and ca_bundle_paths cannot be used with mode = \"spiffe\": its roots are the server's own");
  server(R"({"mode":"spiffe","spiffe_prefix":"/a","svid_prefix":"/b"})",
         "spiffe_prefix and svid_prefix are the same key and differ; set one");
  server(R"({"mode":"spiffe","svid_prefix":"a"})",
         "spiffe_prefix \"a/\" must start with \"/\", as the path of an ID does");
  server(R"({"mode":"spiffe","spiffe_prefix":5})", "spiffe_prefix must be a string");
  server(server_config(R"(,"max_intermediates":17)"), "max_intermediates must be between 0 and 16");
  const std::string known = "; known: .PluginName, .TrustDomain, .Fingerprint, .SerialNumberHex, .Subject.CommonName";
  server(server_config(R"(,"agent_path_template":"/{{ .Nothing }}")"),
         "agent_path_template: unknown field \".Nothing\"" + known);
  server(server_config(R"(,"agent_path_template":"/{{ printf 1 }}")"),
         "agent_path_template: unknown field \"printf 1\"" + known);
  server(server_config(R"(,"agent_path_template":"/{{ .Fingerprint")"), "agent_path_template: \"{{\" without \"}}\"");
}

TEST_P(X509Pop, ModeSpiffeNeedsAHostThatKnowsItsBundleOnceItIsNoDryRun) {
  EXPECT_EQ(outcome(configure(*server_instance, R"({"mode":"spiffe"})", true)), "ok");
  EXPECT_EQ(outcome(configure(*server_instance, R"({"mode":"spiffe"})")),
            "FailedPrecondition: nodeattestor(x509pop): mode \"spiffe\": the host has no limpet.identity/1");
}

// The server's bundle and SVIDs are the factory's here.
TEST_P(X509Pop, ModeSpiffeNamesTheAgentByTheRestOfItsPath) {
  IdentityBoard board;
  services.identity = &board;
  ASSERT_EQ(outcome(configure(*agent_instance, agent_config())), "ok");
  auto agent = make_node_attestor_agent(agent_instance);
  struct Case {
    const char* config;
    std::vector<std::string> uris;
    const char* expected;
  };
  const std::string wrong = "PermissionDenied: nodeattestor(x509pop): x509 cert doesnt match SVID prefix";
  const Case cases[] = {
      {"{\"mode\":\"spiffe\"}", {"spiffe://example.org/spire-exchange/a/b"}, "/spire/agent/x509pop/a/b"},
      {"{\"mode\":\"spiffe\",\"spiffe_prefix\":\"/x\"}", {"spiffe://example.org/x/a"}, "/spire/agent/x509pop/a"},
      {"{\"mode\":\"spiffe\",\"svid_prefix\":\"/x/\"}", {"spiffe://example.org/x/a"}, "/spire/agent/x509pop/a"},
      {"{\"mode\":\"spiffe\",\"svid_prefix\":\"\"}", {"spiffe://example.org/x/a"}, "/spire/agent/x509pop/x/a"},
      {"{\"mode\":\"spiffe\",\"agent_path_template\":\"/x509pop/n-{{ .SVIDPathTrimmed }}\"}",
       {"https://x/", "spiffe://example.org/spire-exchange/a"},
       "/spire/agent/x509pop/n-a"},
      {"{\"mode\":\"spiffe\"}", {"spiffe://example.org/other/a"}, wrong.c_str()},
      {"{\"mode\":\"spiffe\"}", {"spiffe://example.org/spire-exchange"}, wrong.c_str()},
      {"{\"mode\":\"spiffe\"}", {"spiffe://example.org/spire-exchange/"}, wrong.c_str()},
      {"{\"mode\":\"spiffe\"}", {"spiffe://example.org/spire-exchangea/b"}, wrong.c_str()},
      {"{\"mode\":\"spiffe\"}", {"spiffe://example.org.evil/spire-exchange/a"}, wrong.c_str()},
      {"{\"mode\":\"spiffe\"}", {"spiffe://other.org/spire-exchange/a"}, wrong.c_str()},
      {"{\"mode\":\"spiffe\"}",
       {"spiffe://example.org/other/a", "spiffe://example.org/spire-exchange/a"},
       wrong.c_str()},  // the first one counts
      {"{\"mode\":\"spiffe\"}",
       {"https://example.org/spire-exchange/a"},
       "PermissionDenied: nodeattestor(x509pop): valid SVID x509 cert not found"},
      {"{\"mode\":\"spiffe\"}", {}, "PermissionDenied: nodeattestor(x509pop): valid SVID x509 cert not found"},
  };
  for (const Case& one : cases) {
    board.put(nullptr);
    auto instance = create("node_attestor_x509pop", LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix);
    ASSERT_EQ(outcome(configure(*instance, one.config)), "ok");
    auto server = make_node_attestor_server(instance);
    CertificateTemplate leaf = leaf_template(KeyType::ec_p256);
    leaf.uris = one.uris;
    put("cert", issue(middle, std::move(leaf), now_valid));
    auto ours = agent->open();
    const Bytes said = *payload(*ours);
    EXPECT_EQ(outcome(step(*server->open("127.0.0.1"), said)),
              "Unavailable: nodeattestor(x509pop): failed to get trust bundle: the server has none yet");
    auto identity = std::make_shared<PublicIdentity>();
    identity->bundle.x509_authorities = {{make_root("another", KeyType::ec_p256, 0, now_valid).certificate.der, false}};
    board.put(identity);
    EXPECT_EQ(outcome(step(*server->open("127.0.0.1"), said)),
              "PermissionDenied: nodeattestor(x509pop): certificate verification failed: x509: certificate signed by "
              "unknown authority");
    identity = std::make_shared<PublicIdentity>(*identity);
    identity->bundle.x509_authorities.push_back({root.certificate.der, false});
    board.put(identity);
    auto theirs = server->open("127.0.0.1");
    auto said_back = step(*theirs, said);
    if (said_back && !said_back->attested) said_back = step(*theirs, *answer(*ours, said_back->challenge));
    EXPECT_EQ(said_back ? said_back->agent_path : outcome(said_back), one.expected);
  }
}

TEST_P(X509Pop, ACertificateWhoseTwinIsAnAgentIsRefused) {
  ASSERT_EQ(outcome(configure(*agent_instance, agent_config())), "ok");
  ASSERT_EQ(outcome(configure(*server_instance, server_config())), "ok");
  auto agent = make_node_attestor_agent(agent_instance);
  auto server = make_node_attestor_server(server_instance);
  const Certificate leaf = issue(middle, leaf_template(KeyType::ec_p256), now_valid);
  put("cert", leaf);
  const Bytes twin = *kit::certificate_twin(leaf, middle.certificate.key);
  const auto id_of = [](const Bytes& der) {
    return "spiffe://example.org/spire/agent/x509pop/" + hex_encode(sha1(der));
  };
  const Bytes said = to_bytes(x509pop::encode_payload({leaf, middle.certificate}));
  const Bytes rewritten = to_bytes(x509pop::encode_payload({*Certificate::parse(twin), middle.certificate}));
  const std::string prefix = "nodeattestor(x509pop): ";
  const std::string otherwise =
      "PermissionDenied: " + prefix + "this certificate with its signature written otherwise ";

  agents.banned = {{id_of(leaf.der), true}};
  EXPECT_EQ(outcome(attempt(*agent, *server, said)), "ok");  // the host's own refusal
  EXPECT_EQ(agents.asked, std::vector<std::string>{id_of(twin)});
  EXPECT_EQ(outcome(attempt(*agent, *server, rewritten)),
            otherwise + "is the agent " + id_of(leaf.der) + ", which is banned");
  agents.banned = {{id_of(twin), false}};
  EXPECT_EQ(outcome(attempt(*agent, *server, said)), otherwise + "is the agent " + id_of(twin) + " already");
  EXPECT_EQ(outcome(attempt(*agent, *server, rewritten)), "ok");
  agents.broken = true;
  EXPECT_EQ(outcome(attempt(*agent, *server, said)), "Internal: " + prefix + "unable to get agent info: bad row");

  agents.asked.clear();
  ASSERT_EQ(outcome(configure(*server_instance,
                              server_config(R"(,"agent_path_template":"/x509pop/n-{{ .SerialNumberHex }}")"))),
            "ok");
  EXPECT_EQ(outcome(attempt(*agent, *server, said)), "ok");  // both have the same name
  EXPECT_TRUE(agents.asked.empty());
}

TEST_P(X509Pop, NamesByFingerprintNeedAHostThatKnowsItsAgents) {
  services.agents = nullptr;
  auto instance = create("node_attestor_x509pop", LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix);
  EXPECT_EQ(outcome(configure(*instance, server_config(), true)), "ok");
  EXPECT_EQ(outcome(configure(*instance, server_config())),
            "FailedPrecondition: nodeattestor(x509pop): agents named by fingerprint: the host has no "
            "limpet.agent-store/1");
  EXPECT_EQ(outcome(configure(*instance, server_config(R"(,"agent_path_template":"/x509pop/{{ .SerialNumberHex }}")"))),
            "ok");
  instance->close();
}

TEST_P(X509Pop, MissingFilesFailAnAttemptAndADryRunButNotTheStart) {
  std::filesystem::remove(directory + "/key");
  const std::string text =
      "FailedPrecondition: nodeattestor(x509pop): " + directory + "/key: cannot be opened: no such file or directory";
  EXPECT_EQ(outcome(configure(*agent_instance, agent_config(), true)), text);
  ASSERT_EQ(outcome(configure(*agent_instance, agent_config())), "ok");
  auto agent = make_node_attestor_agent(agent_instance);
  auto session = agent->open();
  EXPECT_EQ(outcome(payload(*session)), text);
  device(KeyType::ec_p256);
  EXPECT_EQ(outcome(payload(*session)), "ok");
}

TEST_P(X509Pop, BothHalvesAgreeForEachKindOfKey) {
  ASSERT_EQ(outcome(configure(*agent_instance, agent_config())), "ok");
  ASSERT_EQ(outcome(configure(*server_instance, server_config())), "ok");
  auto agent = make_node_attestor_agent(agent_instance);
  auto server = make_node_attestor_server(server_instance);
  for (KeyType type : {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048}) {
    device(type);
    auto ours = agent->open();
    auto theirs = server->open("127.0.0.1");
    const auto said = payload(*ours);
    ASSERT_EQ(outcome(said), "ok");
    const auto asked = step(*theirs, *said);
    ASSERT_EQ(outcome(asked), "ok");
    ASSERT_FALSE(asked->attested);
    const auto proof = answer(*ours, asked->challenge);
    ASSERT_EQ(outcome(proof), "ok");
    const auto verdict = step(*theirs, *proof);
    ASSERT_EQ(outcome(verdict), "ok") << key_type_name(type);
    EXPECT_TRUE(verdict->attested && verdict->can_reattest);
    EXPECT_TRUE(verdict->agent_path.starts_with("/spire/agent/x509pop/"));
    EXPECT_EQ(verdict->selectors.size(), 3u);  // two authorities and the serial number; the leaf has no common name
    EXPECT_EQ(outcome(step(*theirs, *proof)),
              "InvalidArgument: nodeattestor(x509pop): the challenge was answered already");
  }
}

// ---- the key in the host's key manager ----
class X509PopHeld : public X509Pop {
 protected:
  X509PopHeld() {
    agent_instance->close();
    services.keys = &plugin_keys;
    agent_instance = create("node_attestor_x509pop", LIMPET_NODE_ATTESTOR_AGENT, kNodeAttestorPrefix);
  }
  void hold(KeyType type) {
    device(type);
    std::filesystem::remove(directory + "/key");
    holder.put("attest-device", shared_key(type, 100));
  }
  std::string held_config(const std::string& id = "device") {
    return R"({"key_id":")" + id + R"(","certificate_path":")" + directory + R"(/cert","intermediates_path":")" +
           directory + "/line\"}";
  }
  KeyHolder holder{loop};
  PluginKeys plugin_keys{holder};
};

TEST_P(X509PopHeld, ProvesWithAKeyItNeverSees) {
  ASSERT_EQ(outcome(configure(*agent_instance, held_config())), "ok");
  ASSERT_EQ(outcome(configure(*server_instance, server_config())), "ok");
  auto agent = make_node_attestor_agent(agent_instance);
  auto server = make_node_attestor_server(server_instance);
  for (KeyType type : {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048}) {
    hold(type);
    auto ours = agent->open();
    auto theirs = server->open("127.0.0.1");
    const auto said = payload(*ours);
    ASSERT_EQ(outcome(said), "ok");
    const auto asked = step(*theirs, *said);
    ASSERT_EQ(outcome(asked), "ok");
    const auto proof = answer(*ours, asked->challenge);
    ASSERT_EQ(outcome(proof), "ok");
    const auto verdict = step(*theirs, *proof);
    ASSERT_EQ(outcome(verdict), "ok") << key_type_name(type);
    EXPECT_TRUE(verdict->attested);
  }
  EXPECT_EQ(holder.asked, (std::vector<std::string>{"attest-device", "attest-device", "attest-device pss 32"}));
}

TEST_P(X509PopHeld, SaysWhichKeyIsMissingOrDoesNotMatch) {
  hold(KeyType::ec_p256);
  ASSERT_EQ(outcome(configure(*agent_instance, held_config("other"))), "ok");
  auto agent = make_node_attestor_agent(agent_instance);
  EXPECT_EQ(
      outcome(payload(*agent->open())),
      "NotFound: nodeattestor(x509pop): key manager holder has no key \"attest-other\"; `limpet key csr -keyID other` "
      "makes it");
  holder.put("attest-other", shared_key(KeyType::ec_p256, 7));
  EXPECT_EQ(outcome(payload(*agent->open())),
            "FailedPrecondition: nodeattestor(x509pop): key \"other\": the key does not match the certificate in " +
                directory + "/cert");
}

TEST_P(X509PopHeld, AKeyThatWasReplacedInBetweenProvesNothing) {
  hold(KeyType::ec_p256);
  ASSERT_EQ(outcome(configure(*agent_instance, held_config())), "ok");
  ASSERT_EQ(outcome(configure(*server_instance, server_config())), "ok");
  auto agent = make_node_attestor_agent(agent_instance);
  auto server = make_node_attestor_server(server_instance);
  auto ours = agent->open();
  auto theirs = server->open("127.0.0.1");
  const auto asked = step(*theirs, *payload(*ours));
  holder.put("attest-device", shared_key(KeyType::ec_p256, 7));
  EXPECT_TRUE(outcome(answer(*ours, asked->challenge)).starts_with("FailedPrecondition: nodeattestor(x509pop): "));
}

TEST_P(X509PopHeld, AHostWithoutKeysIsNamedAndADryRunDoesWithout) {
  hold(KeyType::ec_p256);
  services.keys = nullptr;
  auto bare = create("node_attestor_x509pop", LIMPET_NODE_ATTESTOR_AGENT, kNodeAttestorPrefix);
  EXPECT_EQ(outcome(configure(*bare, held_config(), true)), "ok");
  ASSERT_EQ(outcome(configure(*bare, held_config())), "ok");
  auto agent = make_node_attestor_agent(bare);
  EXPECT_EQ(outcome(payload(*agent->open())),
            "FailedPrecondition: nodeattestor(x509pop): this host has no keys for plugins (limpet.keys/1)");
}

TEST_P(X509PopHeld, AnAnswerThatIsWaitedForEndsWithTheAgent) {
  hold(KeyType::ec_p256);
  holder.silent = true;
  ASSERT_EQ(outcome(configure(*agent_instance, held_config())), "ok");
  ASSERT_EQ(outcome(configure(*server_instance, server_config())), "ok");
  auto agent = make_node_attestor_agent(agent_instance);
  auto server = make_node_attestor_server(server_instance);
  auto ours = agent->open();
  auto theirs = server->open("127.0.0.1");
  const auto asked = step(*theirs, *payload(*ours));
  Waiter<Bytes> waiter;
  ours->answer(asked->challenge, waiter.arm());
  for (int turn = 0; turn < 30'000 && holder.held.empty(); ++turn) {
    if (loop.run_ready() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_EQ(holder.held.size(), 1u);
  ours.reset();
  agent.reset();  // waits for the plugin's thread, which is told to give up
  loop.run_ready();
  holder.held.clear();
}

BOTH_CARRIERS(X509PopHeld);

TEST_P(X509Pop, TheAgentRefusesChallengesThatAreNone) {
  ASSERT_EQ(outcome(configure(*agent_instance, agent_config())), "ok");
  auto agent = make_node_attestor_agent(agent_instance);
  auto session = agent->open();
  ASSERT_EQ(outcome(payload(*session)), "ok");
  const std::string prefix = "InvalidArgument: nodeattestor(x509pop): ";
  for (const auto& [challenge, text] : std::initializer_list<std::pair<const char*, const char*>>{
           {"", "unable to unmarshal challenge: "},
           {"{\"ecdsa_signature\":5}", "unable to unmarshal challenge: "},
           {"{\"ecdsa_signature\":{\"nonce\":\"!\"}}", "unable to unmarshal challenge: "},
           {"{}", "failed to calculate challenge response: expecting ECDSA challenge"},
           {"{\"rsa_signature\":{\"nonce\":\"\"}}",
            "failed to calculate challenge response: expecting ECDSA challenge"},
           {"{\"ecdsa_signature\":{\"nonce\":\"AAAA\"}}",
            "failed to calculate challenge response: invalid challenge nonce"}}) {
    const std::string got = outcome(answer(*session, to_bytes(std::string_view(challenge))));
    EXPECT_TRUE(got.starts_with(prefix + text)) << got;
  }
}

TEST_P(X509Pop, KeysAboveTheLimitAreRefused) {
  ASSERT_EQ(outcome(configure(*agent_instance, agent_config())), "ok");
  ASSERT_EQ(outcome(configure(*server_instance, server_config(R"(,"max_rsa_key_size":1024)"))), "ok");
  device(KeyType::rsa_2048);
  auto agent = make_node_attestor_agent(agent_instance);
  auto server = make_node_attestor_server(server_instance);
  auto ours = agent->open();
  auto theirs = server->open("127.0.0.1");
  EXPECT_EQ(outcome(step(*theirs, *payload(*ours))),
            "InvalidArgument: nodeattestor(x509pop): leaf certificate has an RSA key of 2048 bits; at most 1024 are "
            "taken (max_rsa_key_size)");
}

BOTH_CARRIERS(X509Pop);

}  // namespace
}  // namespace limpet
