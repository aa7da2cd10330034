// SPDX-License-Identifier: Apache-2.0
// A TPM that is busy, locked out, or lies.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "kit_tpm/device.h"
#include "swtpm.h"
#include "tpm_proxy.h"

namespace limpet::tpm {
namespace {

using test::tpm_response;

constexpr uint32_t kCreatePrimary = 0x131;
constexpr uint32_t kGetCapability = 0x17a;
constexpr uint32_t kUnseal = 0x15e;
constexpr uint32_t kFlushContext = 0x165;
constexpr uint32_t kAnyCommand = 0;

class TpmTrouble : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test::SwTpm::there()) GTEST_SKIP() << "swtpm is not installed";
    ::setenv("TSS2_LOG", "all+NONE", 0);  // tss2-mu says on stderr what it thinks of senseless contents
    ASSERT_NE(::mkdtemp(directory.data()), nullptr);
    swtpm = std::make_unique<test::SwTpm>(directory + "/tpm");
    ASSERT_TRUE(swtpm->start());
    proxy = std::make_unique<test::TpmProxy>(
        directory + "/proxy", swtpm->socket(), [this](uint32_t code) { return answer(code); },
        [this](uint32_t code, Bytes& theirs) { change(code, theirs); },
        [this](uint32_t code) { return measure(code); });
    set_patience(200);
  }
  // `answer_ms`: only who waits it out has it short; an RSA key may take seconds.
  void set_patience(int64_t busy_ms, int64_t answer_ms = 30'000) {
    DeviceSettings settings;
    settings.address = *parse_address(directory + "/proxy");
    settings.answer_ms = answer_ms;
    settings.busy_ms = busy_ms;
    device = std::make_unique<Device>(std::move(settings));
  }
  void TearDown() override {
    proxy.reset();
    swtpm.reset();
    std::filesystem::remove_all(directory);
  }
  std::unique_ptr<Tpm> open() {
    auto tpm = device->open();
    EXPECT_TRUE(tpm) << tpm.error().text();
    return tpm ? std::move(*tpm) : nullptr;
  }
  // Which commands are answered by `canned`, and how often.
  std::optional<Bytes> answer(uint32_t code) {
    if ((code != hit && hit != kAnyCommand) || times <= 0) return std::nullopt;
    --times;
    ++answered;
    return canned;
  }
  // Turns a bit of the TPM's own answer to `forge` around, that many bytes before its end; or does what `forger` does.
  void change(uint32_t code, Bytes& theirs) {
    if (code != forge) return;
    if (forger) return forger(theirs);
    if (theirs.size() > forge_at) theirs[theirs.size() - forge_at] ^= 1;
  }
  // A machine that measures something else just before a secret is unsealed.
  Bytes measure(uint32_t code) {
    if (code != kUnseal || measurements <= 0) return {};
    --measurements;
    return test::extend_command(10);
  }
  bool seen(BytesView what) {
    const Bytes all = proxy->seen();
    return std::search(all.begin(), all.end(), what.begin(), what.end()) != all.end();
  }
  std::atomic<int> measurements = 0;
  std::atomic<uint32_t> forge = 0;
  std::atomic<size_t> forge_at = 0;
  std::function<void(Bytes&)> forger;
  std::atomic<uint32_t> hit = ~0u;
  std::atomic<int> times = 0;
  std::atomic<int> answered = 0;
  Bytes canned;
  std::string directory = ::testing::TempDir() + "limpet_tpm_XXXXXX";
  std::unique_ptr<test::SwTpm> swtpm;
  std::unique_ptr<test::TpmProxy> proxy;
  std::unique_ptr<Device> device;
};

TEST_F(TpmTrouble, ABusyTpmIsAskedAgain) {
  set_patience(60'000);  // three answers and no clock end the wait, on a slow machine too
  for (const uint32_t rc : {0x922u, 0x908u, 0x90au, 0x920u, 0x923u}) {
    auto tpm = open();
    canned = tpm_response(rc);
    times = 3;
    hit = kCreatePrimary;
    const auto made = tpm->create_primary(Hierarchy::owner, srk_ecc());
    EXPECT_TRUE(made) << made.error().text();
    EXPECT_EQ(times, 0);
  }
}

// A session that is left behind takes one of the few places a TPM has.
TEST_F(TpmTrouble, ABusyTpmIsAskedAgainToEndASession) {
  set_patience(60'000);
  auto tpm = open();
  const PcrSelection pcrs = {kAlgSha256, 1u << 7};
  const auto values = tpm->read_pcrs(pcrs);
  ASSERT_TRUE(values);
  canned = tpm_response(0x922);
  times = 2;
  hit = kFlushContext;
  EXPECT_TRUE(tpm->pcr_policy(pcrs, *values));
  EXPECT_EQ(times, 0);
  EXPECT_EQ(tpm->last_rc(), 0u);
  EXPECT_TRUE(seen(*hex_decode("80010000000e0000016503"))) << "TPM2_FlushContext of a policy session";
}

TEST_F(TpmTrouble, ATpmThatStaysBusyIsUnavailable) {
  set_patience(2'000);
  auto tpm = open();
  canned = tpm_response(0x922);
  times = 1'000'000;
  hit = kCreatePrimary;
  const auto refused = tpm->create_primary(Hierarchy::owner, srk_ecc());
  EXPECT_EQ(refused.error().text(),
            "Unavailable: TPM2_CreatePrimary: TPM_RC_RETRY (0x922): the TPM stayed busy; try again");
  EXPECT_GE(answered, 1);
  times = 0;
  EXPECT_TRUE(tpm->create_primary(Hierarchy::owner, srk_ecc())) << "the connection is still good";
}

TEST_F(TpmTrouble, ATpmThatCannotBeStartedIsUnavailable) {
  auto tpm = open();
  canned = tpm_response(0x100);
  times = 1'000;
  hit = kAnyCommand;
  const auto refused = tpm->create_primary(Hierarchy::owner, srk_ecc());
  EXPECT_EQ(refused.error().text(),
            "Unavailable: TPM2_CreatePrimary: TPM_RC_INITIALIZE (0x100): nobody has started this TPM: boot firmware or "
            "driver must");
  EXPECT_EQ(answered, 3) << "the command, TPM2_Startup, the command";
  times = 0;
  EXPECT_TRUE(tpm->create_primary(Hierarchy::owner, srk_ecc()));
}

TEST_F(TpmTrouble, ALockoutIsNotProlongedByMoreAttempts) {
  auto tpm = open();
  canned = tpm_response(0x921);
  times = 10;
  hit = kCreatePrimary;
  const auto refused = tpm->create_primary(Hierarchy::owner, srk_ecc());
  EXPECT_EQ(refused.error().code, Code::unavailable);
  EXPECT_NE(refused.error().message.find("TPM_RC_LOCKOUT (0x921): too many wrong passwords"), std::string::npos);
  EXPECT_EQ(answered, 1);
}

TEST_F(TpmTrouble, AnswersThatAreNoTpmsAreRefused) {
  set_patience(200, 2'000);
  const Bytes lies[] = {
      *hex_decode("80010000000900000000"),                  // shorter than a header
      *hex_decode("800100001001000000000000"),              // larger than any response
      *hex_decode("ffffffffffffffffffff"),                  //
      *hex_decode("80010000000a0000000000"),                // more than it says
      *hex_decode("474554202f20485454502f312e310d0a0d0a"),  // another protocol
      *hex_decode("8001"),                                  // and then nothing
      {},                                                   // hangs up
  };
  for (const Bytes& lie : lies) {
    auto tpm = open();
    canned = lie;
    times = 1;
    hit = kGetCapability;
    const auto refused = tpm->info();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::unavailable) << hex_encode(lie) << ": " << refused.error().text();
    EXPECT_EQ(tpm->info().error().code, Code::unavailable) << "the connection is not used again";
  }
  times = 0;
  EXPECT_TRUE(open()->info());
}

TEST_F(TpmTrouble, WhoListensOnTheBusLearnsNoSecret) {
  const Bytes secret = random_bytes(32);
  for (const Bytes& root : {srk_ecc(), srk_rsa()}) {
    for (const uint32_t mask : {0u, 1u << 7}) {
      const PcrSelection pcrs = {kAlgSha256, mask};
      auto tpm = open();
      auto srk = tpm->create_primary(Hierarchy::owner, root);
      ASSERT_TRUE(srk) << srk.error().text();
      const Bytes policy = mask == 0 ? Bytes() : *tpm->pcr_policy(pcrs, *tpm->read_pcrs(pcrs));
      const auto made = tpm->create(*srk, sealed_data(policy), {}, secret);
      ASSERT_TRUE(made) << made.error().text();
      auto object = tpm->load(*srk, made->blob);
      ASSERT_TRUE(object) << object.error().text();
      const auto opened = tpm->unseal(*object, *srk, pcrs);
      ASSERT_TRUE(opened) << opened.error().text();
      EXPECT_EQ(to_bytes(opened->view()), secret);
      EXPECT_TRUE(seen(made->blob.private_area)) << "the test looks at the right bytes";
    }
  }
  EXPECT_FALSE(seen(BytesView(secret).first(8)));
}

TEST_F(TpmTrouble, WhoChangesWhatTheBusCarriesIsNoticed) {
  constexpr uint32_t kCreate = 0x153;
  const Bytes secret = random_bytes(32);
  auto tpm = open();
  auto srk = tpm->create_primary(Hierarchy::owner, srk_ecc());
  ASSERT_TRUE(srk);
  const auto made = tpm->create(*srk, sealed_data(), {}, secret);
  ASSERT_TRUE(made);
  auto object = tpm->load(*srk, made->blob);
  ASSERT_TRUE(object);
  const auto refused = [](const Error& error, const char* command) {
    EXPECT_EQ(error.text(),
              std::string("Unavailable: ") + command +
                  ": the answer is not authentic: something between this machine's CPU and its TPM changes "
                  "what they say");
  };
  forge = kUnseal;
  for (const size_t at : {1, 40, 75, 95}) {  // in the HMAC, the nonce, and the hidden secret
    forge_at = at;
    const auto opened = tpm->unseal(*object, *srk);
    ASSERT_FALSE(opened) << at;
    refused(opened.error(), "TPM2_Unseal");
  }
  forge = kCreate;
  forge_at = 1;
  const auto created = tpm->create(*srk, sealed_data(), {}, secret);
  ASSERT_FALSE(created);
  refused(created.error(), "TPM2_Create");
  forge = kCreatePrimary;
  forge_at = 6;  // the name: five bytes of an empty authorization follow it
  const auto primary = tpm->create_primary(Hierarchy::owner, srk_ecc());
  ASSERT_FALSE(primary);
  refused(primary.error(), "TPM2_CreatePrimary");
  forger = [](Bytes& theirs) {                // another key under the true name, which only SHA-256 would give away
    constexpr size_t kNameAlg = 22, kX = 44;  // in TPMT_PUBLIC, which begins at 20
    ASSERT_GT(theirs.size(), kX + 32);
    EXPECT_EQ(theirs[kNameAlg + 1], kAlgSha256);
    EXPECT_EQ(theirs[kX - 1], 32);
    theirs[kNameAlg + 1] = kAlgSha384;
    theirs[kX] ^= 1;
  };
  const auto renamed = tpm->create_primary(Hierarchy::owner, srk_ecc());
  ASSERT_FALSE(renamed);
  refused(renamed.error(), "TPM2_CreatePrimary");
  forger = nullptr;
  forge = 0;
  EXPECT_TRUE(tpm->unseal(*object, *srk));
}

// The TPM says so of any PCR, also of those that the policy does not name.
TEST_F(TpmTrouble, APcrThatIsExtendedMeanwhileIsWorthAnotherPolicy) {
  const Bytes secret = random_bytes(32);
  const PcrSelection pcrs = {kAlgSha256, 1u << 7};
  auto tpm = open();
  auto srk = tpm->create_primary(Hierarchy::owner, srk_ecc());
  ASSERT_TRUE(srk);
  const auto made = tpm->create(*srk, sealed_data(*tpm->pcr_policy(pcrs, *tpm->read_pcrs(pcrs))), {}, secret);
  ASSERT_TRUE(made);
  auto object = tpm->load(*srk, made->blob);
  ASSERT_TRUE(object);
  measurements = 5;
  const auto opened = tpm->unseal(*object, *srk, pcrs);
  ASSERT_TRUE(opened) << opened.error().text();
  EXPECT_EQ(to_bytes(opened->view()), secret);
  EXPECT_EQ(measurements, 0);
  measurements = 1'000;
  const auto refused = tpm->unseal(*object, *srk, pcrs);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text(),
            "Unavailable: TPM2_Unseal: TPM_RC_PCR_CHANGED (0x128): a PCR was extended meanwhile; try again");
  EXPECT_EQ(measurements, 990) << "it comes to an end";
  measurements = 0;
  EXPECT_TRUE(tpm->unseal(*object, *srk, pcrs)) << "no session was left behind";
}

// A character device in place of /dev/tpmrm0: a terminal in raw mode, with the software TPM behind it.
class Terminal {
 public:
  explicit Terminal(const std::string& tpm) : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    ::grantpt(master_);
    ::unlockpt(master_);
    name = ::ptsname(master_);
    held_ = ::open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);  // or its end would be seen between two openings
    termios raw = {};
    ::tcgetattr(held_, &raw);
    ::cfmakeraw(&raw);
    ::tcsetattr(held_, TCSANOW, &raw);
    thread_ = std::thread([this, tpm] { relay(tpm); });
  }
  ~Terminal() {
    stop_ = true;
    thread_.join();
    ::close(held_);
    ::close(master_);
  }
  std::string name;

 private:
  void relay(const std::string& tpm) {
    auto way = Transport::open(*parse_address(tpm), 30'000);
    pollfd item = {master_, POLLIN, 0};
    while (way && !stop_) {
      if (::poll(&item, 1, 20) <= 0) continue;
      Bytes command(4096);
      command.resize(static_cast<size_t>(std::max<ssize_t>(::read(master_, command.data(), command.size()), 0)));
      if (!(*way)->send(command)) return;
      const auto answer = (*way)->receive(30'000);
      if (!answer || ::write(master_, answer->data(), answer->size()) < 0) return;
    }
  }
  const int master_;
  int held_ = -1;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

TEST_F(TpmTrouble, ADeviceNodeIsTalkedToAsWell) {
  const Terminal terminal(swtpm->socket());
  DeviceSettings settings;
  settings.address = *parse_address("device:" + terminal.name);
  settings.answer_ms = 30'000;
  const Device node(std::move(settings));
  for (int round = 0; round < 3; ++round) {
    auto tpm = node.open();
    ASSERT_TRUE(tpm) << tpm.error().text();
    const auto info = (*tpm)->info();
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_EQ(info->manufacturer, "IBM");
    EXPECT_TRUE((*tpm)->create_primary(Hierarchy::owner, srk_ecc()));
  }
}

// Well framed, senseless inside: whatever it is, an error or a value, and no harm (the sanitizers watch).
TEST_F(TpmTrouble, SenselessContentsDoNoHarm) {
  std::mt19937 random(7);
  auto tpm = open();
  auto srk = tpm->create_primary(Hierarchy::owner, srk_ecc());
  ASSERT_TRUE(srk);
  const auto made = tpm->create(*srk, signing_key(KeyType::ec_p256));
  auto key = tpm->load(*srk, made->blob);
  ASSERT_TRUE(key);
  const std::pair<uint32_t, std::function<void()>> calls[] = {
      {kGetCapability, [&] { (void)tpm->info(); }},
      {kGetCapability, [&] { (void)tpm->pcr_banks(); }},
      {kGetCapability, [&] { (void)tpm->has_curve(kCurveP256); }},
      {0x17e, [&] { (void)tpm->read_pcrs({kAlgSha256, 0xff}); }},
      {0x15d, [&] { (void)tpm->sign(*key, HashAlg::sha256, Bytes(32)); }},
      {0x153, [&] { (void)tpm->create(*srk, signing_key(KeyType::ec_p256)); }},
      {0x162, [&] { (void)tpm->save(*key); }},
      {0x173, [&] { (void)tpm->read_persistent(0x81000001); }},
      {0x169, [&] { (void)tpm->read_nv(0x01c00002); }},
      {0x158, [&] { (void)tpm->quote(*key, {}, {{PcrSelection{kAlgSha256, 1}}}); }},
      {0x176, [&] { (void)tpm->pcr_policy({kAlgSha256, 1}, {Bytes(32)}); }},
  };
  for (const auto& [code, call] : calls) {
    for (int round = 0; round < 60; ++round) {
      canned = {0x80, static_cast<uint8_t>(1 + random() % 2), 0, 0, 0, 0, 0, 0, 0, 0};
      const size_t size = 10 + random() % (round < 30 ? 64 : 1500);
      while (canned.size() < size) canned.push_back(static_cast<uint8_t>(random() % 3 == 0 ? random() : random() % 3));
      canned[4] = static_cast<uint8_t>(size >> 8);
      canned[5] = static_cast<uint8_t>(size);
      times = 1;
      hit = code;
      call();
    }
  }
  times = 0;
}

}  // namespace
}  // namespace limpet::tpm
