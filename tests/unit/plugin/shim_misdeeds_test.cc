// SPDX-License-Identifier: Apache-2.0
// Plugins in child processes that misbehave: what becomes of an operation when the child crashes, hangs, floods, does
// not listen or lies, and of the child.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <filesystem>
#include <thread>

#include "plugin/node_attestor.h"
#include "plugin/shim_child.h"
#include "plugin/upstream_authority_facade.h"
#include "plugin/workload_attestor.h"
#include "shimmed.h"

namespace limpet {
namespace {

using namespace test;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// What the facade does to sign, with a deadline of the test's choice.
PluginCall sign_call(Instance& instance, std::string id) {
  return [table = instance.table<limpet_key_manager>(), id = std::move(id)](limpet_instance* self, limpet_op* op) {
    const limpet_sign_request r = {sizeof r, 5, {id.data(), id.size()}, {}, -1, 0, {}};
    table->sign(self, op, &r, [](limpet_op* o, const limpet_status* err, limpet_bytes, limpet_str) {
      answer_op<Bytes>(o, err, [] { return Result<Bytes>(); });
    });
  };
}

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
        // services: http, which a key manager without a network was not offered; two at once; none; kv with less than
        // it needs, or with an action too few; no number
        Misdeed{"raw:47:1:02000000", "Unavailable test(moody): the plugin's process died: it sent a call of a service",
                "a call of a service that it was not offered"},
        Misdeed{"raw:47:1:12000000", "Unavailable test(moody): the plugin's process died: it sent a call of a service",
                "a call of a service that it was not offered"},
        Misdeed{"raw:47:1:00000000", "Unavailable test(moody): the plugin's process died: it sent a call of a service",
                "a call of a service that it was not offered"},
        Misdeed{"raw:47:1:10000000", "Unavailable test(moody): the plugin's process died: it sent a service call",
                "a service call that cannot be read"},
        Misdeed{"raw:47:1:1000000001000000ffffffff", "Unavailable test(moody): the plugin's process died: it sent a",
                "a service call that cannot be read"},
        Misdeed{"raw:47:1:80000000", "Unavailable test(moody): the plugin's process died: it sent a call of the",
                "a call of the sealer that cannot be read"},
        // the value of "k", asked for twice under one number
        Misdeed{"raw:47:1:1000000001000000010000006b00000000,47:1:1000000001000000010000006b00000000",
                "Unavailable test(moody): the plugin's process died: it sent a service call too",
                "a service call too many, or one with a number in use"},
        Misdeed{"raw:47:0:10000000", "Unavailable test(moody): the plugin's process died: it sent a service call too",
                "a service call too many, or one with a number in use"},
        // a log record without its message; one with more fields than any has
        Misdeed{"raw:45:0:02000000", "Unavailable test(moody): the plugin's process died: it sent a log record",
                "a log record that cannot be read"},
        Misdeed{"raw:45:0:020000000000000041000000",
                "Unavailable test(moody): the plugin's process died: it sent a log",
                "a log record that cannot be read"},
        // what belongs to its start; what it never may say; news for nobody
        Misdeed{"raw:39:0:", "Unavailable test(moody): the plugin's process died: it sent a frame of kind 39",
                "kind 39"},
        Misdeed{"raw:40:0:", "Unavailable test(moody): the plugin's process died: it sent a frame of kind 40",
                "kind 40"},
        Misdeed{"raw:1:0:", "Unavailable test(moody): the plugin's process died: it sent a frame of kind 1", "kind 1"},
        Misdeed{"raw:44:7:", "Unavailable test(moody): the plugin's process died: it sent an update of nothing",
                "an update of nothing"},
        Misdeed{"pong", "Unavailable test(moody): the plugin's process died: it sent a pong",
                "a pong without a ping"}));

TEST_P(Misdeeds, EndsTheRequestOnceAndTheNextOneIsServed) {
  EveryService services(loop_);
  services_ = services.offered();
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  EXPECT_THAT(sign(*keys, GetParam().key), StartsWith(GetParam().answer));
  for (int i = 0; i < 500 && logged().find(GetParam().logged) == std::string::npos; ++i) turn(10);
  EXPECT_THAT(logged(), HasSubstr(GetParam().logged));
  std::string after;
  for (int i = 0; i < 500 && (after = sign(*keys, "ok")) != "digest"; ++i) turn(10);
  EXPECT_EQ(after, "digest");
}

// A call of each service that a server's node attestor may use, without its fields.
struct Unreadable {
  const char* call;
  const char* why;
};
class UnreadableCalls : public ShimTest, public ::testing::WithParamInterface<Unreadable> {};
INSTANTIATE_TEST_SUITE_P(
    Shim, UnreadableCalls,
    ::testing::Values(Unreadable{"01000000", "a gRPC call"}, Unreadable{"02000000", "an HTTP call"},
                      Unreadable{"04000000", "a question for an agent"},
                      Unreadable{"08000000", "a question for an enrolment"}, Unreadable{"10000000", "a service call"},
                      // the identity is told, never asked for
                      Unreadable{"20000000", "a service call"}, Unreadable{"4000000001000000", "a question for a key"},
                      Unreadable{"4000000002000000", "a signature's request"},
                      Unreadable{"80000000", "a call of the sealer"}));

TEST_P(UnreadableCalls, EndTheProcessAndTheNextAttemptIsServed) {
  EveryService services(loop_);
  services_ = services.offered();
  auto server = make_node_attestor_server(start(LIMPET_NODE_ATTESTOR_SERVER));
  auto session = server->open("192.0.2.7");
  Await<AttestStep> died(loop_);
  session->step(to_bytes("ask:raw:47:1:" + std::string(GetParam().call)), died.done());
  const auto end = died.get();
  ASSERT_FALSE(end.has_value());
  EXPECT_EQ(end.error().code, Code::unavailable);
  EXPECT_THAT(end.error().message, HasSubstr("it sent " + std::string(GetParam().why) + " that cannot be read"));
  auto another = server->open("192.0.2.7");
  Await<AttestStep> challenged(loop_);
  another->step(to_bytes("x"), challenged.done());
  EXPECT_TRUE(challenged.get().has_value());
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
  settings_.grace_ms = 3'000;
  auto instance = start(LIMPET_KEY_MANAGER);
  auto keys = make_key_manager(instance);
  EXPECT_EQ(sign(*keys, "ok"), "digest");
  // nothing in flight from the host's view, and the child stopped by somebody
  ASSERT_EQ(::kill(only_child(), SIGSTOP), 0);
  for (int i = 0; i < 500 && logged().find("does not answer") == std::string::npos; ++i) turn(10);
  EXPECT_THAT(logged(), HasSubstr("it does not answer"));
  EXPECT_EQ(sign(*keys, "ok"), "digest");
}

TEST_F(ShimTest, AChildThatSpinsInACallIsKilledAndReplaced) {
  settings_.grace_ms = 50;
  auto instance = start(LIMPET_KEY_MANAGER);
  Await<Bytes> late(loop_);
  instance->run<Bytes>(sign_call(*instance, "spin"), 20, late.done());
  EXPECT_THAT(text_of(late.get()), StartsWith("DeadlineExceeded"));
  for (int i = 0; i < 500 && logged().find("did not end a call") == std::string::npos; ++i) turn(10);
  auto keys = make_key_manager(instance);
  EXPECT_EQ(sign(*keys, "ok"), "digest");
}

// The first holds the plugin's only place and does not end when it is cancelled; the second is given up while it waits.
TEST_F(ShimTest, ACallThatIsGivenUpWhileItWaitsFreesNobodysPlaceInASerialPlugin) {
  settings_.grace_ms = 2'000;
  auto instance = start(LIMPET_KEY_MANAGER, "mock_moody_serial");
  Await<Bytes> stuck(loop_), gone(loop_), third(loop_);
  instance->run<Bytes>(sign_call(*instance, "ignore"), 20, stuck.done());
  EXPECT_THAT(text_of(stuck.get()), StartsWith("DeadlineExceeded"));
  instance->run<Bytes>(sign_call(*instance, "never"), 20, gone.done());
  EXPECT_THAT(text_of(gone.get()), StartsWith("DeadlineExceeded"));
  auto keys = make_key_manager(instance);
  ManagedKey key;
  key.id = "ok";
  key.fingerprint = "f";
  keys->sign(key, HashAlg::sha256, to_bytes("digest"), third.done());
  turn(100);
  EXPECT_EQ(third.answers(), 0);
  EXPECT_EQ(text_of(third.get()), "digest");  // of the next process
  EXPECT_THAT(logged(), HasSubstr("did not end a call that was cancelled"));
}

TEST_F(ShimTest, APidfdOfACallThatIsRefusedAtOnceStaysOpen) {
  settings_.restart_first_ms = 60'000;  // after the first death calls end at once
  auto attestor = make_workload_attestor(start(LIMPET_WORKLOAD_ATTESTOR));
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0));
  ASSERT_GE(pidfd, 0);
  struct stat before = {}, after = {};
  ASSERT_EQ(::fstat(pidfd, &before), 0);
  for (const uint32_t uid : {4242u, 0u, 0u}) {  // 4242 is what the mock dies of; the others are not sent
    Await<std::vector<std::string>> attested(loop_);
    attestor->attest({::getpid(), pidfd, uid, 0}, attested.done());
    const auto result = attested.get();
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, Code::unavailable) << result.error().message;
    ASSERT_EQ(::fstat(pidfd, &after), 0) << "closed, after the attestation of uid " << uid;
    EXPECT_EQ(after.st_ino, before.st_ino);
  }
  EXPECT_EQ(::close(pidfd), 0);
}

TEST_F(ShimTest, AnUpstreamAuthorityIsNotAskedTwiceForACertificate) {
  auto upstream = make_upstream_authority(start(LIMPET_UPSTREAM_AUTHORITY));
  Await<MintedCa> minted(loop_);
  upstream->mint_ca(to_bytes("csr"), 4242, minted.done());  // what the mock dies of
  EXPECT_EQ(minted.get().error().code, Code::unavailable);
  turn(50);
  const std::string log = logged();
  ASSERT_THAT(log, HasSubstr("killed by signal"));
  EXPECT_EQ(log.find("killed by signal"), log.rfind("killed by signal"));
}

TEST_F(ShimTest, ACancelledCallThatDoesNotEndIsTheEndOfTheChild) {
  settings_.grace_ms = 50;
  auto instance = start(LIMPET_KEY_MANAGER);
  Await<Bytes> late(loop_);
  instance->run<Bytes>(sign_call(*instance, "hang"), 20, late.done());
  EXPECT_THAT(text_of(late.get()), StartsWith("DeadlineExceeded"));
  for (int i = 0; i < 500 && logged().find("did not end a call") == std::string::npos; ++i) turn(10);
  auto keys = make_key_manager(instance);
  EXPECT_EQ(sign(*keys, "ok"), "digest");
}

TEST_F(ShimTest, AChildThatOnlyWatchesHasNoExcuseForItsSilence) {
  settings_.ping_every_ms = 10;
  settings_.grace_ms = 3'000;
  auto upstream = make_upstream_authority(start(LIMPET_UPSTREAM_AUTHORITY));
  Heard heard(loop_);
  auto watch = upstream->watch_bundle(heard);
  loop_.run();
  ASSERT_EQ(heard.bundles.size(), 1u);
  ASSERT_EQ(::kill(only_child(), SIGSTOP), 0);
  for (int i = 0; i < 500 && heard.ends.empty(); ++i) turn(10);
  ASSERT_EQ(heard.ends.size(), 1u);
  EXPECT_THAT(heard.ends[0].error().message, HasSubstr("it does not answer"));
}

class EveryFlagMisbehaving : public ShimTest, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Shim, EveryFlagMisbehaving,
                         ::testing::Values("mock_moody", "mock_moody_blocking", "mock_moody_serial"));

// The worker that waits gives up by itself; this is about the child, which would hang for good.
TEST_P(EveryFlagMisbehaving, ASignatureForAWorkerThatHangsIsTheEndOfTheChild) {
  settings_.grace_ms = 50;
  auto instance = start(LIMPET_KEY_MANAGER, GetParam());
  Result<Bytes> answer = fail(Code::internal, "never ran");
  std::thread worker([&] { answer = instance->run_and_wait<Bytes>(sign_call(*instance, "hang"), 20); });
  for (int i = 0; i < 500 && logged().find("did not end a call") == std::string::npos; ++i) turn(10);
  worker.join();
  EXPECT_THAT(text_of(answer), StartsWith("DeadlineExceeded"));
  EXPECT_THAT(logged(), HasSubstr("did not end a call that was cancelled"));
  auto keys = make_key_manager(instance);
  EXPECT_EQ(sign(*keys, "ok"), "digest");
}

TEST_F(ShimTest, AChildThatHangsWhenItIsStartedAgainIsReplaced) {
  const std::string file = ::testing::TempDir() + "limpet-unless-" + std::to_string(::getpid());
  settings_.start_ms = 6'000;        // a call has 10 s
  settings_.restart_first_ms = 600;  // the second pause is longer than a call waits
  auto instance = open(LIMPET_KEY_MANAGER, mock());
  ASSERT_TRUE(configure(**instance, R"({"mode":"unless:)" + file + R"("})").has_value());
  auto keys = make_key_manager(*instance);
  std::ofstream(file) << "x";
  EXPECT_THAT(sign(*keys, "exit"), StartsWith("Unavailable"));
  for (int i = 0; i < 1'500 && logged().find("did not start in time") == std::string::npos; ++i) turn(10);
  EXPECT_THAT(logged(), HasSubstr("it did not start in time"));
  std::filesystem::remove(file);
  std::string after;
  for (int i = 0; i < 500 && (after = sign(*keys, "ok")) != "digest"; ++i) turn(10);
  EXPECT_EQ(after, "digest");
}

TEST_F(ShimTest, AFileThatWasWrittenToIsNotStartedAgainUntilItIsTheSame) {
  const std::string file = ::testing::TempDir() + "limpet-changed-" + std::to_string(::getpid()) + ".so";
  std::filesystem::copy_file(mock(), file, std::filesystem::copy_options::overwrite_existing);
  const auto size = std::filesystem::file_size(file);
  auto instance = open(LIMPET_KEY_MANAGER, file);
  ASSERT_TRUE(instance.has_value()) << instance.error().message;
  ASSERT_TRUE(configure(**instance).has_value());
  auto keys = make_key_manager(*instance);
  std::ofstream(file, std::ios::app) << "x";
  EXPECT_THAT(sign(*keys, "exit"), StartsWith("Unavailable"));
  for (int i = 0; i < 500 && logged().find("written to since") == std::string::npos; ++i) turn(10);
  EXPECT_THAT(logged(), HasSubstr(file + " refused: it was written to since it was checked"));
  EXPECT_NE(sign(*keys, "ok"), "digest");
  std::filesystem::resize_file(file, size);
  std::string after;
  for (int i = 0; i < 500 && (after = sign(*keys, "ok")) != "digest"; ++i) turn(10);
  EXPECT_EQ(after, "digest");
  std::filesystem::remove(file);
}

TEST_F(ShimTest, AChildThatReadsNothingMoreIsReplaced) {
  settings_.ping_every_ms = 2'000;  // none while it becomes deaf
  auto keys = make_key_manager(start(LIMPET_KEY_MANAGER));
  Await<ManagedKey> deaf(loop_);
  keys->generate("deaf", KeyType::ec_p256, deaf.done());
  turn(50);  // it has closed that side
  ManagedKey key;
  key.id = "ok";
  key.fingerprint = "f";
  Await<Bytes> answered(loop_);
  keys->sign(key, HashAlg::sha256, to_bytes("digest"), answered.done());  // meets the closed side
  EXPECT_THAT(deaf.get().error().message, HasSubstr("it stopped reading"));
  EXPECT_EQ(text_of(answered.get()), "digest");  // of the next child
}

TEST_F(ShimTest, WhatAChildDoesNotReadIsBounded) {
  struct Listener final : shim::ShimChild::Listener {
    explicit Listener(UvLoop& l) : loop(l) {}
    void on_frame(const shim::Frame& /*frame*/) override {}
    void on_end(std::string why) override {
      ends.push_back(std::move(why));
      loop.stop();
    }
    UvLoop& loop;
    std::vector<std::string> ends;
  } listener(loop_);
  const std::string script = ::testing::TempDir() + "limpet-sleeper-" + std::to_string(::getpid());
  std::ofstream(script) << "#!/bin/sh\nexec sleep 600\n";
  std::filesystem::permissions(script, std::filesystem::perms::owner_all);
  auto child = shim::ShimChild::start(loop_, script, STDERR_FILENO, listener);
  ASSERT_TRUE(child.has_value()) << child.error().message;
  constexpr size_t kFrame = 1u << 20;
  for (int i = 0; i < 64; ++i) (*child)->send(Bytes(kFrame));
  EXPECT_LE((*child)->unsent(), 32 * kFrame);
  loop_.run();
  EXPECT_THAT(listener.ends, ::testing::ElementsAre("it does not read what it is sent"));
  std::filesystem::remove(script);
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
  const auto children = [this] {  // once they had time to end
    std::string pids = "x";
    for (int i = 0; i < 1'000 && !pids.empty(); ++i) {
      turn(10);
      pids.clear();
      std::ifstream("/proc/self/task/" + std::to_string(::getpid()) + "/children") >> pids;
    }
    return pids;
  };
  ASSERT_NE(start(LIMPET_KEY_MANAGER), nullptr);
  EXPECT_EQ(children(), "");
  const int64_t before = open_descriptors();
  for (int i = 0; i < 20; ++i) {
    auto again = Instance::create({loop_, *logger_, "example.org", {}}, *components_.back(), "test");
    ASSERT_TRUE(again.has_value());
    EXPECT_TRUE(configure(**again).has_value());
    (*again)->close();
  }
  EXPECT_EQ(children(), "");
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace limpet
