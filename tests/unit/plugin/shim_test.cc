// SPDX-License-Identifier: Apache-2.0
// Plugins in child processes: every kind of call and service through the socket, and what becomes of an operation when
// the child crashes, hangs, floods or lies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>

#include <filesystem>

#include "plugin/bundle_publisher_facade.h"
#include "plugin/node_attestor.h"
#include "plugin/plugin_keys.h"
#include "plugin/sealer_facade.h"
#include "plugin/upstream_authority_facade.h"
#include "plugin/workload_attestor.h"
#include "shimmed.h"
#include "support/fake_services.h"

namespace limpet {
namespace {

using namespace test;
using ::testing::HasSubstr;
using ::testing::StartsWith;

size_t open_descriptors() {
  return static_cast<size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator()));
}

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
  const size_t before = open_descriptors();
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

struct Heard final : UpstreamWatcher {
  explicit Heard(UvLoop& l) : loop(l) {}
  void on_upstream_bundle(UpstreamBundle bundle) override {
    bundles.push_back(std::move(bundle));
    loop.stop();
  }
  void on_upstream_watch_end(Result<void> result) override {
    ends.push_back(std::move(result));
    loop.stop();
  }
  UvLoop& loop;
  std::vector<UpstreamBundle> bundles;
  std::vector<Result<void>> ends;
};

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
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  for (const char* service : {"kv", "agent", "http", "identity", "key:device", "seal"})
    EXPECT_EQ(sign(*keys, service), "no service");
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
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  EXPECT_EQ(sign(*keys, "agent"), "tpm2");
  EXPECT_EQ(sign(*keys, "identity"), "none yet");
  auto identity = std::make_shared<PublicIdentity>();
  identity->bundle.x509_authorities.push_back({to_bytes("root")});
  board.put(identity);
  for (int i = 0; i < 200 && sign(*keys, "identity") == "none yet"; ++i) turn(10);
  EXPECT_EQ(sign(*keys, "identity"), "example.org 1");
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
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  EXPECT_EQ(sign(*keys, "http"), "418");
  http.room = false;
  EXPECT_EQ(sign(*keys, "http"), "no answer");
}

TEST_F(ShimTest, TheRolesKeyManagerAndSealerServeAChild) {
  const PrivateKey device = *PrivateKey::generate(KeyType::ec_p256);
  KeyHolder holder(loop_);
  holder.put("attest-device", device);
  PluginKeys plugin_keys(holder);
  OpenSealer sealer(loop_);
  services_.keys = &plugin_keys;
  services_.sealer = &sealer;
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  const std::string signature = sign(*keys, "key:device");
  EXPECT_TRUE(device.public_key().verify(HashAlg::sha256, Bytes(32), to_bytes(signature)));
  EXPECT_THAT(sign(*keys, "key:other"), HasSubstr("error 5 key manager holder has no key \"attest-other\""));
  EXPECT_EQ(sign(*keys, "seal"), "secret");
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
  const auto facts = shim::Component::describe(settings_, mock(), digest_of_file(mock()));
  ASSERT_TRUE(facts.has_value()) << facts.error().message;
  EXPECT_EQ(facts->id, "org.example.moody");
  EXPECT_EQ(facts->components.size(), 7u);
  std::ifstream maps("/proc/self/maps");
  const std::string mapped((std::istreambuf_iterator<char>(maps)), {});
  EXPECT_THAT(mapped, ::testing::Not(HasSubstr("mock_moody.so")));
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

// ---- misdeeds ----

struct Misdeed {
  const char* key;
  const char* answer;  // how it starts
  const char* logged;  // why the child was ended; "": it lives
};
class Misdeeds : public ShimTest, public ::testing::WithParamInterface<Misdeed> {};
// `sign` is repeated once: the second death answers it.
INSTANTIATE_TEST_SUITE_P(
    Shim, Misdeeds,
    ::testing::Values(
        Misdeed{"crash", "Unavailable test(moody): the plugin's process died: ", "died"},
        Misdeed{"exit", "Unavailable test(moody): the plugin's process died: exit status 3", "exit status 3"},
        Misdeed{"twice", "once", "called done twice"},
        Misdeed{"big", "ResourceExhausted test(moody): the answer is larger", ""},
        Misdeed{"null", "Internal test(moody): the plugin's answer is not usable", ""},
        Misdeed{"no code", "Unknown test(moody): the plugin reported an error without a code", ""},
        Misdeed{"talk", "talked", "log records of a plugin were dropped"},
        Misdeed{"flood", "Unavailable test(moody): the plugin's process died: it sent a flood", "flood"},
        Misdeed{"garbage", "Unavailable test(moody): the plugin's process died: it sent a frame of an impossible",
                "impossible length"},
        Misdeed{"length", "Unavailable test(moody): the plugin's process died: it sent a frame of an impossible",
                "impossible length"},
        Misdeed{"unknown op", "Unavailable test(moody): the plugin's process died: it sent an answer to nothing",
                "an answer to nothing it was asked"},
        Misdeed{"unknown method", "Unavailable test(moody): the plugin's process died: it sent a frame of kind 999",
                "kind 999"},
        Misdeed{"answer twice", "once", "or a second one"},
        Misdeed{"close", "Unavailable test(moody): the plugin's process died: ", "died"},
        Misdeed{"pong", "Unavailable test(moody): the plugin's process died: it sent a pong",
                "a pong without a ping"}));

TEST_P(Misdeeds, EndsTheRequestOnceAndTheNextOneIsServed) {
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  EXPECT_THAT(sign(*keys, GetParam().key), StartsWith(GetParam().answer));
  for (int i = 0; i < 500 && logged().find(GetParam().logged) == std::string::npos; ++i) turn(10);
  EXPECT_THAT(logged(), HasSubstr(GetParam().logged));
  std::string after;
  for (int i = 0; i < 500 && (after = sign(*keys, "ok")) != "digest"; ++i) turn(10);
  EXPECT_EQ(after, "digest");
}

TEST_F(ShimTest, AnAnswerWithAFieldThatIsNotThereIsAnInternalError) {
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  EXPECT_THAT(sign(*keys, "short answer"), HasSubstr("sent an answer that cannot be read"));
  EXPECT_EQ(sign(*keys, "ok"), "digest");
}

TEST_F(ShimTest, ReadingCallsAreRepeatedOnceAndOthersNever) {
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  // in flight when the child dies of something else
  ManagedKey never;
  never.id = "never";
  never.fingerprint = "f";
  Await<Bytes> innocent(loop_);
  Await<ManagedKey> generated(loop_);
  keys->sign(never, HashAlg::sha256, to_bytes("x"), innocent.done());
  keys->generate("crash", KeyType::ec_p256, generated.done());
  const auto dead = generated.get();
  EXPECT_EQ(dead.error().code, Code::unavailable);
  EXPECT_THAT(dead.error().message, HasSubstr("killed by signal"));
  EXPECT_EQ(sign(*keys, "ok"), "digest");
  EXPECT_EQ(innocent.answers(), 0);  // put to the new child, which keeps it too
}

TEST_F(ShimTest, ASessionDiesWithItsChildButAPayloadIsAskedAgain) {
  auto agent = make_node_attestor_agent(start(LIMPET_NODE_ATTESTOR_AGENT));
  auto session = agent->open();
  Await<Bytes> payload(loop_);
  session->payload(payload.done());
  EXPECT_EQ(text_of(payload.get()), "payload");
  Await<Bytes> crash(loop_);
  session->answer(to_bytes("crash"), crash.done());
  EXPECT_THAT(text_of(crash.get()), StartsWith("Unavailable"));
  Await<Bytes> gone(loop_);
  session->answer(to_bytes("x"), gone.done());
  EXPECT_THAT(text_of(gone.get()), HasSubstr("session died with the plugin's process"));
  auto another = agent->open();
  Await<Bytes> again(loop_);
  another->payload(again.done());
  EXPECT_EQ(text_of(again.get()), "payload");
}

TEST_F(ShimTest, AnIdleChildThatDoesNotAnswerPingsIsReplaced) {
  settings_.ping_every_ms = 10;
  settings_.grace_ms = 50;
  auto instance = start(LIMPET_KEY_MANAGER);
  auto keys = make_key_manager(instance);
  EXPECT_EQ(sign(*keys, "ok"), "digest");
  // nothing in flight from the host's view, and the child stopped by somebody
  const auto who = sign(*keys, "who");
  std::string children;
  std::ifstream("/proc/self/task/" + std::to_string(::getpid()) + "/children") >> children;
  const pid_t pid = children.empty() ? -1 : std::stoi(children);
  ASSERT_GT(pid, 0) << who;
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  for (int i = 0; i < 500 && logged().find("does not answer") == std::string::npos; ++i) turn(10);
  EXPECT_THAT(logged(), HasSubstr("it does not answer"));
  EXPECT_EQ(sign(*keys, "ok"), "digest");
}

TEST_F(ShimTest, ACancelledCallThatDoesNotEndIsTheEndOfTheChild) {
  settings_.grace_ms = 50;
  auto upstream = make_upstream_authority(start(LIMPET_UPSTREAM_AUTHORITY));
  auto instance = start(LIMPET_KEY_MANAGER);
  Await<Bytes> late(loop_);
  instance->run<Bytes>(
      [table = instance->table<limpet_key_manager>()](limpet_instance* self, limpet_op* op) {
        const std::string id = "hang";
        const limpet_sign_request r = {sizeof r, 5, {id.data(), id.size()}, {}, -1, 0, {}};
        table->sign(self, op, &r, [](limpet_op* o, const limpet_status* err, limpet_bytes, limpet_str) {
          answer_op<Bytes>(o, err, [] { return Result<Bytes>(); });
        });
      },
      20, late.done());
  EXPECT_THAT(text_of(late.get()), StartsWith("DeadlineExceeded"));
  for (int i = 0; i < 500 && logged().find("did not end a call") == std::string::npos; ++i) turn(10);
  auto keys = make_key_manager(instance);
  EXPECT_EQ(sign(*keys, "ok"), "digest");
}

TEST_F(ShimTest, AChildThatKeepsDyingIsLeftAloneForLongerAndHealthSaysSo) {
  settings_.restart_first_ms = 1;
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  for (int i = 0; i < 4; ++i) EXPECT_THAT(sign(*keys, "exit"), StartsWith("Unavailable"));
  EXPECT_THAT(health(), HasSubstr("plugin moody of org.example.moody: its process died"));
  EXPECT_THAT(health(), HasSubstr("exit status 3"));
  EXPECT_TRUE(health_.serving());
  EXPECT_EQ(sign(*keys, "ok"), "digest");
}

TEST_F(ShimTest, WhileAChildRestsLongCallsEndAtOnce) {
  settings_.restart_first_ms = 60'000;
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  EXPECT_THAT(sign(*keys, "exit"), StartsWith("Unavailable"));
  EXPECT_THAT(sign(*keys, "ok"), HasSubstr("died (exit status 3) and is not back yet"));
}

TEST_F(ShimTest, AnInstanceIsClosedWhileItsChildHangs) {
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  Await<Bytes> hanging(loop_);
  ManagedKey key;
  key.id = "hang";
  key.fingerprint = "f";
  keys->sign(key, HashAlg::sha256, to_bytes("x"), hanging.done());
  turn(20);
  keys.reset();
  EXPECT_THAT(text_of(hanging.get()), StartsWith("Unavailable test(moody): the plugin is being stopped"));
}

TEST_F(ShimTest, ACallTooLargeForAFrameIsRefused) {
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  EXPECT_THAT(sign(*keys, "ok", std::string(2u << 20, 'x')), StartsWith("ResourceExhausted"));
  EXPECT_EQ(sign(*keys, "ok", std::string(1u << 20, 'x')).size(), 1u << 20);
}

TEST_F(ShimTest, CyclesLeaveNoDescriptorAndNoChild) {
  ASSERT_NE(start(LIMPET_KEY_MANAGER), nullptr);
  turn(50);
  const size_t before = open_descriptors();
  for (int i = 0; i < 20; ++i) {
    auto again = Instance::create({loop_, *logger_, "example.org", {}}, *components_.back(), "test");
    ASSERT_TRUE(again.has_value());
    EXPECT_TRUE(configure(**again).has_value());
    (*again)->close();
  }
  std::string children = "x";
  for (int i = 0; i < 300 && !children.empty(); ++i) {
    turn(10);
    children.clear();
    std::ifstream("/proc/self/task/" + std::to_string(::getpid()) + "/children") >> children;
  }
  EXPECT_EQ(children, "");
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace limpet
