// SPDX-License-Identifier: Apache-2.0
// Plugins in child processes: every kind of call and service through the socket, and refusals at the start.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <filesystem>

#include "plugin/bundle_publisher_facade.h"
#include "plugin/node_attestor.h"
#include "plugin/plugin_keys.h"
#include "plugin/sealer_facade.h"
#include "plugin/upstream_authority_facade.h"
#include "plugin/workload_attestor.h"
#include "shimmed.h"

namespace limpet {
namespace {

using namespace test;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// ---- every kind ----

class EveryFlag : public ShimTest, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Shim, EveryFlag, ::testing::Values("mock_moody", "mock_moody_blocking", "mock_moody_serial"));

TEST_P(EveryFlag, KeyManagerSigns) {
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER, GetParam()));
  EXPECT_EQ(sign(*keys, "ok"), "digest");
  EXPECT_EQ(sign(*keys, "time"), "in time");
  EXPECT_THAT(sign(*keys, "who is this"), HasSubstr("NotFound test(moody): no such key"));
  Await<std::vector<ManagedKey>> listed(loop_);
  keys->list(listed.done());
  EXPECT_TRUE(listed.get()->empty());
  Await<ManagedKey> generated(loop_);
  keys->generate("a", KeyType::ec_p256, generated.done());
  EXPECT_EQ(generated.get().error().code, Code::unimplemented);
  Await<void> removed(loop_);
  keys->remove("a", removed.done());
  EXPECT_THAT(removed.get().error().message, HasSubstr("the plugin cannot remove keys"));
}

TEST_P(EveryFlag, ManySignaturesAtOnceEachAnswered) {
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER, GetParam()));
  std::vector<std::unique_ptr<Await<Bytes>>> waiting;
  for (int i = 0; i < 200; ++i) {
    ManagedKey key;
    key.id = "ok";
    key.fingerprint = "f";
    waiting.push_back(std::make_unique<Await<Bytes>>(loop_));
    keys->sign(key, HashAlg::sha256, to_bytes(std::to_string(i)), waiting.back()->done());
  }
  for (int i = 0; i < 200; ++i) EXPECT_EQ(text_of(waiting[static_cast<size_t>(i)]->get()), std::to_string(i));
}

TEST_P(EveryFlag, SealerSeals) {
  auto sealer = make_sealer(start(LIMPET_SEALER, GetParam()));
  Await<Bytes> sealed(loop_);
  sealer->seal(SecretBytes(as_bytes("plain")), to_bytes("context"), sealed.done());
  Await<SecretBytes> opened(loop_);
  sealer->unseal(*sealed.get(), to_bytes("context"), opened.done());
  EXPECT_EQ(as_text(opened.get()->view()), "plain");
}

TEST_P(EveryFlag, NodeAttestorTalksInSessions) {
  auto agent = make_node_attestor_agent(start(LIMPET_NODE_ATTESTOR_AGENT, GetParam()));
  auto server = make_node_attestor_server(start(LIMPET_NODE_ATTESTOR_SERVER, GetParam()));
  auto one = agent->open();
  auto two = agent->open();
  auto attempt = server->open("192.0.2.7");
  Await<Bytes> payload(loop_);
  one->payload(payload.done());
  EXPECT_EQ(text_of(payload.get()), "payload");
  Await<AttestStep> first(loop_);
  attempt->step(to_bytes("challenge"), first.done());
  const auto challenge = first.get();
  EXPECT_EQ(as_text(challenge->challenge), "challenge");
  Await<Bytes> answer(loop_);
  one->answer(challenge->challenge, answer.done());
  EXPECT_EQ(text_of(answer.get()), "round 2");
  Await<Bytes> no_payload(loop_);
  two->answer(challenge->challenge, no_payload.done());
  EXPECT_THAT(text_of(no_payload.get()), HasSubstr("could not open a session"));
  Await<AttestStep> second(loop_);
  attempt->step(to_bytes("answer"), second.done());
  const auto verdict = second.get();
  ASSERT_TRUE(verdict.has_value());
  EXPECT_TRUE(verdict->attested && verdict->can_reattest);
  EXPECT_EQ(verdict->agent_path, "/spire/agent/moody/1");
  EXPECT_EQ(verdict->selectors, std::vector<std::string>{"peer:192.0.2.7"});
}

TEST_P(EveryFlag, WorkloadAttestorGetsThePidfd) {
  auto attestor = make_workload_attestor(start(LIMPET_WORKLOAD_ATTESTOR, GetParam()));
  const auto pidfd = static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0));
  const int64_t before = open_descriptors();
  for (int i = 0; i < 3; ++i) {
    Await<std::vector<std::string>> attested(loop_);
    attestor->attest({::getpid(), pidfd, 1, 2}, attested.done());
    const auto selectors = attested.get();
    ASSERT_TRUE(selectors.has_value()) << selectors.error().message;
    EXPECT_THAT(*selectors, ::testing::Contains("pidfd:alive"));
  }
  EXPECT_EQ(open_descriptors(), before);
  ::close(pidfd);
}

TEST_P(EveryFlag, UpstreamAuthorityMintsPublishesAndWatches) {
  auto upstream = make_upstream_authority(start(LIMPET_UPSTREAM_AUTHORITY, GetParam()));
  Await<MintedCa> minted(loop_);
  upstream->mint_ca(to_bytes("csr"), 3600, minted.done());
  EXPECT_EQ(as_text(minted.get()->chain.at(0)), "csr");
  Await<void> published(loop_);
  upstream->publish_jwt_key({"kid", to_bytes("spki"), 77, true}, published.done());
  EXPECT_TRUE(published.get().has_value());
  Heard heard(loop_);
  auto watch = upstream->watch_bundle(heard);
  loop_.run();
  ASSERT_EQ(heard.bundles.size(), 1u);
  EXPECT_EQ(heard.bundles[0].jwt_keys.at(0).id, "kid");
  EXPECT_EQ(heard.bundles[0].refresh_hint, 60);
}

TEST_P(EveryFlag, BundlePublisherPublishes) {
  auto publisher = make_bundle_publisher(start(LIMPET_BUNDLE_PUBLISHER, GetParam()));
  Bundle bundle;
  bundle.x509_authorities.push_back({to_bytes("root")});
  bundle.jwt_authorities.push_back({.key_id = "kid", .spki = to_bytes("spki"), .expires_at = 5});
  Await<void> published(loop_);
  publisher->publish(bundle, published.done());
  const auto done = published.get();
  EXPECT_TRUE(done.has_value()) << done.error().message;
}

// ---- host services ----

TEST_F(ShimTest, ServicesThatTheHostLacksAreNotOffered) {
  auto server = make_node_attestor_server(start(LIMPET_NODE_ATTESTOR_SERVER));
  for (const char* service : {"kv", "agent", "http", "identity", "key:device", "seal"})
    EXPECT_EQ(ask(*server, service), "no service");
}

// The same descriptors, in the daemon's process and in its own: nothing tells a plugin where it runs.
TEST_F(ShimTest, ADescriptorIsWatchedAlikeInTheDaemonAndInAChild) {
  services_.poll = &loop_;
  const auto loaded = load_plugin_file(mock(), digest_of_file(mock()));
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  auto instance = Instance::create({loop_, *logger_, "example.org", services_},
                                   *find_component(**loaded, LIMPET_KEY_MANAGER, "moody"), "test");
  ASSERT_TRUE(configure(**instance).has_value());
  auto here = make_key_manager(*instance);
  auto there = make_key_manager(start(LIMPET_KEY_MANAGER));
  const std::pair<const char*, const char*> cases[] = {{"closed", "code 3"},
                                                       {"file", "code 3"},
                                                       {"folder", "code 3"},
                                                       {"null", "code 3"},
                                                       {"nothing", "code 3"},
                                                       {"unknown bit", "code 3"},
                                                       {"end", "events 1 nonblocking"},
                                                       {"data and end", "events 1 nonblocking"},
                                                       {"error", "events 3 nonblocking"},
                                                       {"one bit more", "events 1 nonblocking"}};
  for (const auto& [kind, told] : cases) {
    EXPECT_EQ(sign(*here, std::string("watch:") + kind), told) << kind << " in the daemon";
    EXPECT_EQ(sign(*there, std::string("watch:") + kind), told) << kind << " in a child";
  }
}

struct Offer {
  const char* interface_id;
  const char* offline;
  const char* online;  // network = true, or in the daemon's process
};
class Offers : public ShimTest, public ::testing::WithParamInterface<Offer> {};
INSTANTIATE_TEST_SUITE_P(
    Shim, Offers,
    ::testing::Values(
        Offer{LIMPET_NODE_ATTESTOR_AGENT, "has kv/1 keys/1 seal/1", "has grpc/1 http/1 kv/1 keys/1 seal/1"},
        Offer{LIMPET_NODE_ATTESTOR_SERVER, "has grpc/1 http/1 agent-store/1 enrollment/1 kv/1 identity/1 keys/1 seal/1",
              "has grpc/1 http/1 agent-store/1 enrollment/1 kv/1 identity/1 keys/1 seal/1"},
        Offer{LIMPET_WORKLOAD_ATTESTOR, "has kv/1", "has kv/1"},
        Offer{LIMPET_KEY_MANAGER, "has kv/1 seal/1", "has grpc/1 http/1 kv/1 seal/1"},
        Offer{LIMPET_SEALER, "has kv/1", "has grpc/1 http/1 kv/1"},
        Offer{LIMPET_UPSTREAM_AUTHORITY, "has grpc/1 http/1 kv/1 identity/1 keys/1 seal/1",
              "has grpc/1 http/1 kv/1 identity/1 keys/1 seal/1"},
        Offer{LIMPET_BUNDLE_PUBLISHER, "has grpc/1 http/1 kv/1 identity/1", "has grpc/1 http/1 kv/1 identity/1"}));

TEST_P(Offers, AKindOfPluginGetsTheServicesItNeedsAndNoOthers) {
  EveryService services(loop_);
  services_ = services.offered();
  const auto offered = [&] {
    auto instance = open(GetParam().interface_id, mock());
    return instance ? configure(**instance, R"({"services":1})").error().message : instance.error().message;
  };
  EXPECT_EQ(offered(), std::string("test(moody): ") + GetParam().offline);
  if (std::string_view(GetParam().interface_id) != LIMPET_WORKLOAD_ATTESTOR) {
    settings_.network = true;
    EXPECT_EQ(offered(), std::string("test(moody): ") + GetParam().online);
  }
  const auto loaded = load_plugin_file(mock(), digest_of_file(mock()));
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  auto here = Instance::create({loop_, *logger_, "example.org", services_},
                               *find_component(**loaded, GetParam().interface_id, "moody"), "test");
  EXPECT_EQ(configure(**here, R"({"services":1})").error().message, std::string("test(moody): ") + GetParam().online);
}

TEST_F(ShimTest, TimersPollsPostsAndThreadsAreTheChildsOwn) {
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  EXPECT_EQ(sign(*keys, "late"), "late");
  EXPECT_EQ(sign(*keys, "post"), "late");
  EXPECT_EQ(sign(*keys, "poll"), "readable");
  EXPECT_EQ(sign(*keys, "thread"), "from a thread");
}

TEST_F(ShimTest, TheServersAgentsAndIdentityAreTold) {
  struct Agents final : AgentLookup {
    void find(const std::string& id, Done<KnownAgent> done) override { done(KnownAgent{id, "tpm2", false}); }
  };
  struct LateAgents final : AgentLookup {
    explicit LateAgents(UvLoop& l) : loop(l) {}
    void find(const std::string& id, Done<KnownAgent> done) override {
      loop.post([d = std::move(done), id]() mutable { d(KnownAgent{id, "tpm2", false}); });
    }
    UvLoop& loop;
  } agents(loop_);
  IdentityBoard board;
  services_.agents = &agents;
  services_.identity = &board;
  settings_.ping_every_ms = 20;
  auto server = make_node_attestor_server(start(LIMPET_NODE_ATTESTOR_SERVER));
  EXPECT_EQ(ask(*server, "agent"), "tpm2");
  EXPECT_EQ(ask(*server, "identity"), "none yet");
  auto identity = std::make_shared<PublicIdentity>();
  identity->bundle.x509_authorities.push_back({to_bytes("root")});
  board.put(identity);
  for (int i = 0; i < 200 && ask(*server, "identity") == "none yet"; ++i) turn(10);
  EXPECT_EQ(ask(*server, "identity"), "example.org 1");
}

TEST_F(ShimTest, AnHttpCallGoesThroughTheHost) {
  struct LateHttp final : HttpCaller {
    explicit LateHttp(UvLoop& l) : loop(l) {}
    [[nodiscard]] bool has_room() const override { return room; }
    void get(PlainGet, Done<PlainReply> done) override {
      loop.post([d = std::move(done)]() mutable { d(PlainReply{418, to_bytes("tea")}); });
    }
    UvLoop& loop;
    bool room = true;
  } http(loop_);
  services_.http = &http;
  auto server = make_node_attestor_server(start(LIMPET_NODE_ATTESTOR_SERVER));
  EXPECT_EQ(ask(*server, "http"), "418");
  http.room = false;
  EXPECT_EQ(ask(*server, "http"), "no answer");
}

TEST_F(ShimTest, TheRolesKeyManagerAndSealerServeAChild) {
  const PrivateKey device = *PrivateKey::generate(KeyType::ec_p256);
  KeyHolder holder(loop_);
  holder.put("attest-device", device);
  PluginKeys plugin_keys(holder);
  OpenSealer sealer(loop_);
  services_.keys = &plugin_keys;
  services_.sealer = &sealer;
  auto server = make_node_attestor_server(start(LIMPET_NODE_ATTESTOR_SERVER));
  const std::string signature = ask(*server, "key:device");
  EXPECT_TRUE(device.public_key().verify(HashAlg::sha256, Bytes(32), to_bytes(signature)));
  EXPECT_THAT(ask(*server, "key:other"), HasSubstr("error 5 key manager holder has no key \"attest-other\""));
  EXPECT_EQ(ask(*server, "seal"), "secret");
}

TEST_F(ShimTest, WhatASandboxLacksStandsAmongTheFactsOfHealth) {
  start(LIMPET_KEY_MANAGER);
  const auto facts = health_.facts();
  ASSERT_EQ(facts.size(), 1u);
  EXPECT_EQ(facts[0].name, "sandbox_missing moody of org.example.moody");
  EXPECT_EQ(facts[0].text, "everything: the sandbox is switched off");
}

// ---- refusals at the start ----

TEST_F(ShimTest, AWrongDigestIsRefusedBeforeAChildSeesTheFile) {
  const auto opened =
      shim::Component::open(loop_, settings_, mock(), std::string(64, '0'), LIMPET_KEY_MANAGER, "moody");
  ASSERT_FALSE(opened.has_value());
  EXPECT_THAT(opened.error().message, HasSubstr("its SHA-256 is"));
}

TEST_F(ShimTest, ABrokenPluginIsRefusedByTheChild) {
  for (const char* file : {"mock_null", "mock_no_entry", "mock_short_table"}) {
    const auto opened = open(LIMPET_WORKLOAD_ATTESTOR, mock(file), "mock");
    ASSERT_FALSE(opened.has_value()) << file;
    EXPECT_EQ(opened.error().code, Code::failed_precondition);
    EXPECT_THAT(opened.error().message, HasSubstr(std::string(file) + ".so refused:"));
  }
}

TEST_F(ShimTest, AMissingComponentIsNotFound) {
  const auto opened = open(LIMPET_KEY_MANAGER, mock(), "cheerful");
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, Code::not_found);
}

TEST_F(ShimTest, AMissingProgramIsNamed) {
  settings_.program = "/nonexistent/limpet-shim";
  const auto opened = open(LIMPET_KEY_MANAGER, mock());
  ASSERT_FALSE(opened.has_value());
  EXPECT_THAT(opened.error().message, HasSubstr("/nonexistent/limpet-shim"));
}

TEST_F(ShimTest, WhatAPluginHasIsDescribedWithoutMappingIt) {
  // a copy: another test may have mapped the mock itself
  const std::string file = ::testing::TempDir() + "limpet-described-" + std::to_string(::getpid()) + ".so";
  std::filesystem::copy_file(mock(), file, std::filesystem::copy_options::overwrite_existing);
  const auto facts = shim::Component::describe(settings_, file, digest_of_file(file));
  ASSERT_TRUE(facts.has_value()) << facts.error().message;
  EXPECT_EQ(facts->id, "org.example.moody");
  EXPECT_EQ(facts->components.size(), 7u);
  std::ifstream maps("/proc/self/maps");
  const std::string mapped((std::istreambuf_iterator<char>(maps)), {});
  EXPECT_FALSE(mapped.contains(file));
  EXPECT_TRUE(mapped.contains("libc.so"));  // it is the list of what is mapped
  std::filesystem::remove(file);
}

TEST_F(ShimTest, ARefusedConfigurationIsThePluginsOwnError) {
  auto instance = open(LIMPET_KEY_MANAGER, mock());
  ASSERT_TRUE(instance.has_value());
  const auto refused = configure(**instance, R"({"refuse":1})");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::invalid_argument);
  EXPECT_THAT(refused.error().message, HasSubstr("test(moody): this configuration is refused"));
  EXPECT_TRUE(configure(**instance, "{}", true).has_value());
}

TEST_F(ShimTest, ACrashInTheFirstConfigurationEndsItAndIsNotRepeated) {
  auto instance = open(LIMPET_KEY_MANAGER, mock());
  ASSERT_TRUE(instance.has_value());
  const auto refused = configure(**instance, R"({"crash":1})");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::unavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("the plugin's process died"));
}

TEST_F(ShimTest, AChildGivesBackWhatItHasAlsoWhenTheLoopEndsWithIt) {
  const std::string file = ::testing::TempDir() + "limpet-farewell-" + std::to_string(::getpid());
  {
    UvLoop loop;
    auto component =
        shim::Component::open(loop, settings_, mock(), digest_of_file(mock()), LIMPET_KEY_MANAGER, "moody");
    ASSERT_TRUE(component.has_value()) << component.error().message;
    auto instance = Instance::create({loop, *logger_, "example.org", services_}, **component, "test");
    ASSERT_TRUE(instance.has_value()) << instance.error().message;
    Await<void> configured(loop);
    (*instance)->configure(R"({"x":"farewell:)" + file + "\"}", false, configured.done());
    ASSERT_TRUE(configured.get().has_value());
    (*instance)->close();
  }
  EXPECT_TRUE(std::filesystem::remove(file));
}

}  // namespace
}  // namespace limpet
