// SPDX-License-Identifier: Apache-2.0
// The sealer's facade over its table, and a sealer in a shared object behind the loader.
#include "plugin/sealer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "crypto/key.h"
#include "loop/destroy_at_every_step.h"
#include "plugin/loader.h"
#include "plugin/sealer_facade.h"
#include "scripted.h"

namespace limpet {
namespace {

using namespace test;

// ---- a sealer that answers what the test says ----
struct SealScript {
  SealScript() { alive = this; }
  ~SealScript() { alive = nullptr; }
  static inline SealScript* alive = nullptr;
  Bytes answer = {1, 2, 3};
  limpet_code code = LIMPET_OK;
  std::string heard;
};
void script_answer(limpet_op* op, limpet_bytes given, limpet_bytes context, limpet_bytes_done done) {
  SealScript& s = *SealScript::alive;
  s.heard = std::string(as_text({given.ptr, given.len})) + "/" + std::string(as_text({context.ptr, context.len}));
  const limpet_status status = {sizeof status, s.code, {"why", 3}, 0, 0};
  if (s.code != LIMPET_OK) return done(op, &status, {});
  done(op, nullptr, {s.answer.data(), s.answer.size()});
}
void script_seal(limpet_instance*, limpet_op* op, limpet_bytes plain, limpet_bytes context, limpet_bytes_done done) {
  script_answer(op, plain, context, done);
}
void script_unseal(limpet_instance*, limpet_op* op, limpet_bytes blob, limpet_bytes context, limpet_bytes_done done) {
  script_answer(op, blob, context, done);
}
limpet_code make(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(SealScript::alive);
  return LIMPET_OK;
}
void unmake(limpet_instance*) {}
void no_configure(limpet_instance*, limpet_op* op, const limpet_config*, limpet_done done) { done(op, nullptr); }
constexpr limpet_sealer kTable = {sizeof kTable, 0, script_seal, script_unseal};
template <uint32_t Flags>
constexpr limpet_component kComponent = {
    sizeof(limpet_component), Flags, LIMPET_SEALER, "box", make, unmake, no_configure, nullptr, &kTable};

template <uint32_t Flags = 0>
std::unique_ptr<Sealer> open_sealer(Loop& loop) {
  return make_sealer(*Instance::create({loop, Logger::none(), "example.org"}, kComponent<Flags>, kSealerPrefix));
}

TEST(SealerFacade, HandsOverSecretsAndBlobsWithTheirContext) {
  SealScript script;
  FakeLoop loop;
  const auto sealer = open_sealer(loop);
  EXPECT_EQ(sealer->name(), "box");
  Waiter<Bytes> sealed;
  sealer->seal(SecretBytes(as_bytes("secret")), to_bytes("ctx"), sealed.arm());
  EXPECT_EQ(outcome(sealed), "waiting");
  loop.run_ready();
  ASSERT_EQ(outcome(sealed), "ok");
  EXPECT_EQ(**sealed.result, (Bytes{1, 2, 3}));
  EXPECT_EQ(script.heard, "secret/ctx");
  Waiter<SecretBytes> opened;
  sealer->unseal(to_bytes("blob"), {}, opened.arm());
  loop.run_ready();
  ASSERT_EQ(outcome(opened), "ok");
  EXPECT_EQ(to_bytes((*opened.result)->view()), (Bytes{1, 2, 3}));
  EXPECT_EQ(script.heard, "blob/");
}

TEST(SealerFacade, KeepsThePluginsCodeAndNamesIt) {
  SealScript script;
  FakeLoop loop;
  const auto sealer = open_sealer(loop);
  const auto unseal = [&](limpet_code code) {
    script.code = code;
    Waiter<SecretBytes> opened;
    sealer->unseal(Bytes{1}, {}, opened.arm());
    loop.run_ready();
    return outcome(opened);
  };
  EXPECT_EQ(unseal(LIMPET_FAILED_PRECONDITION), "FailedPrecondition: sealer(box): why");
  EXPECT_EQ(unseal(LIMPET_UNAVAILABLE), "Unavailable: sealer(box): why");
}

TEST(SealerFacade, RefusesWhatDoesNotFitBeforeThePluginSeesIt) {
  SealScript script;
  FakeLoop loop;
  const auto sealer = open_sealer(loop);
  const auto refused = [&](SecretBytes plain, size_t context) {
    Waiter<Bytes> sealed;
    sealer->seal(std::move(plain), Bytes(context), sealed.arm());
    loop.run_ready();
    return outcome(sealed).starts_with("InvalidArgument: sealer(box): a secret of 1 to 4096 bytes");
  };
  EXPECT_TRUE(refused(SecretBytes(), 0));
  EXPECT_TRUE(refused(SecretBytes(4097), 0));
  EXPECT_TRUE(refused(SecretBytes(1), 65));
  EXPECT_FALSE(refused(SecretBytes(4096), 64));
  script.heard.clear();
  for (const size_t size : {size_t{0}, size_t{65'537}}) {
    Waiter<SecretBytes> opened;
    sealer->unseal(Bytes(size), {}, opened.arm());
    loop.run_ready();
    EXPECT_TRUE(outcome(opened).starts_with("InvalidArgument")) << size;
  }
  EXPECT_EQ(script.heard, "");
}

TEST(SealerFacade, RefusesAnswersItCannotUse) {
  SealScript script;
  FakeLoop loop;
  const auto sealer = open_sealer(loop);
  for (const size_t size : {size_t{0}, size_t{65'537}}) {
    script.answer = Bytes(size);
    Waiter<Bytes> sealed;
    sealer->seal(SecretBytes(1), {}, sealed.arm());
    loop.run_ready();
    EXPECT_TRUE(outcome(sealed).starts_with("Internal: sealer(box): the plugin's answer is not usable")) << size;
  }
  for (const size_t size : {size_t{0}, size_t{4097}}) {
    script.answer = Bytes(size);
    Waiter<SecretBytes> opened;
    sealer->unseal(Bytes(1), {}, opened.arm());
    loop.run_ready();
    EXPECT_TRUE(outcome(opened).starts_with("Internal: sealer(box): the plugin's answer is not usable")) << size;
  }
}

TEST(SealerFacade, MayBeDestroyedAtEachStepOfItsCalls) {
  struct Scenario {
    explicit Scenario(FakeLoop& loop) {
      flow = open_sealer<LIMPET_SERIAL>(loop);
      flow->seal(SecretBytes(32), {}, sealed.arm());
      flow->unseal(Bytes(32), {}, opened.arm());
    }
    SealScript script;
    Waiter<Bytes> sealed;
    Waiter<SecretBytes> opened;
    std::unique_ptr<Sealer> flow;
  };
  EXPECT_GE(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<Scenario>(loop); }), 2u);
}

// ---- tests/abi/mocks/sealer.c, on a thread of its own ----
TEST(SealerModule, OpensWhatTheSameDeviceSealedAndNothingElse) {
  std::string folder = ::testing::TempDir() + "limpet_sealer_XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string device = folder + "/device";
  std::ofstream(device) << "first";
  const std::string path = LIMPET_MOCKS "/mock_sealer.so";
  std::ifstream file(path, std::ios::binary);
  const std::string code((std::istreambuf_iterator<char>(file)), {});
  const auto plugin = load_plugin_file(path, hex_encode(sha256(as_bytes(code))));
  ASSERT_TRUE(plugin) << plugin.error().text();
  FakeLoop loop;
  auto instance = *Instance::create({loop, Logger::none(), "example.org"},
                                    *find_component(**plugin, LIMPET_SEALER, "mock"), kSealerPrefix);
  Waiter<void> configured;
  instance->configure("{\"device\":\"" + device + "\"}", false, configured.arm());
  ASSERT_TRUE(run_until(loop, [&] { return configured.result.has_value(); }));
  ASSERT_EQ(outcome(configured), "ok");
  const auto sealer = make_sealer(std::move(instance));
  Waiter<Bytes> sealed;
  sealer->seal(SecretBytes(as_bytes("secret")), to_bytes("ctx"), sealed.arm());
  ASSERT_TRUE(run_until(loop, [&] { return sealed.result.has_value(); }));
  ASSERT_EQ(outcome(sealed), "ok");
  const Bytes blob = **sealed.result;
  const auto unseal = [&](std::string_view context) {
    Waiter<SecretBytes> opened;
    sealer->unseal(blob, to_bytes(context), opened.arm());
    EXPECT_TRUE(run_until(loop, [&] { return opened.result.has_value(); }));
    return outcome(opened) == "ok" ? std::string(as_text((*opened.result)->view())) : outcome(opened);
  };
  EXPECT_EQ(unseal("ctx"), "secret");
  EXPECT_EQ(unseal("other"), "FailedPrecondition: sealer(mock): another device sealed it");
  std::ofstream(device) << "second";
  EXPECT_EQ(unseal("ctx"), "FailedPrecondition: sealer(mock): another device sealed it");
  std::filesystem::remove(device);
  EXPECT_EQ(unseal("ctx"), "Unavailable: sealer(mock): the device does not answer");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace limpet
