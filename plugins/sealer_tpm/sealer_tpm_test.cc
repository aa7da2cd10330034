// SPDX-License-Identifier: Apache-2.0
#include "carriers.h"
#include "kit_tpm/device.h"
#include "plugin/sealer_facade.h"
#include "sealer_tpm/blob.h"
#include "swtpm.h"
#include "tpm_proxy.h"

namespace limpet {
namespace {

using namespace test;
using sealer_tpm::Blob;
using sealer_tpm::decode_blob;

class TpmSealer : public ShippedPlugin {
 protected:
  void SetUp() override {
    if (!SwTpm::there()) GTEST_SKIP() << "swtpm is not installed";
    tpm = std::make_unique<SwTpm>(directory + "/tpm");
    ASSERT_TRUE(tpm->start());
  }
  std::string config(const std::string& more = "") {
    return R"({"device":"swtpm:path=)" + tpm->socket() + "\"" + more + "}";
  }
  std::string open(const std::string& json) {
    sealer.reset();
    auto instance = create("sealer_tpm", LIMPET_SEALER, kSealerPrefix);
    const std::string result = outcome(configure(*instance, json));
    sealer = make_sealer(instance);
    return result;
  }
  Result<Bytes> seal(std::string_view plain, std::string_view context = "cache") {
    return wait<Bytes>(
        [&](Done<Bytes> done) { sealer->seal(SecretBytes(as_bytes(plain)), to_bytes(context), std::move(done)); });
  }
  Result<std::string> unseal(const Bytes& blob, std::string_view context = "cache") {
    auto got =
        wait<SecretBytes>([&](Done<SecretBytes> done) { sealer->unseal(blob, to_bytes(context), std::move(done)); });
    if (!got) return fail(got.error());
    return std::string(as_text(got->view()));
  }
  void extend(uint32_t pcr) {
    tpm::DeviceSettings settings;
    settings.address = *tpm::parse_address(tpm->socket());
    const tpm::Device device(std::move(settings));
    ASSERT_EQ(outcome((*device.open())->extend_pcr(pcr, sha256(as_bytes("event")))), "ok");
  }
  std::unique_ptr<SwTpm> tpm;
  std::unique_ptr<Sealer> sealer;
};

TEST_P(TpmSealer, RefusesAConfigurationThatItDoesNotUnderstand) {
  const std::string prefix = "InvalidArgument: sealer(tpm): ";
  EXPECT_EQ(open(R"({"pcrs":[24]})"), prefix + "pcrs: a PCR has a number from 0 to 23");
  EXPECT_EQ(open(R"({"pcrs":[-1]})"), prefix + "pcrs: a PCR has a number from 0 to 23");
  EXPECT_EQ(open(R"({"pcrs":"7"})"), prefix + "pcrs must be a list of whole numbers");
  EXPECT_EQ(open(R"({"pcrs":[7.5]})"), prefix + "pcrs must be a list of whole numbers");
  EXPECT_EQ(open(R"({"pcr_bank":"md5"})"), prefix + "pcr_bank is sha256, sha384 or sha1, not \"md5\"");
  EXPECT_EQ(open(R"({"pcr":[7]})"), prefix + "unknown key \"pcr\"; known: device, owner_auth_file, pcr_bank, pcrs");
}

TEST_P(TpmSealer, OpensWhatItSealedAlsoAfterRestartAndReset) {
  ASSERT_EQ(open(config()), "ok");
  for (const size_t size : {size_t{1}, size_t{32}, size_t{129}, size_t{4096}}) {
    const std::string secret(size, 's');
    const auto blob = seal(secret);
    ASSERT_EQ(outcome(blob), "ok");
    if (size > 16) {
      EXPECT_EQ(std::search(blob->begin(), blob->end(), secret.begin(), secret.begin() + 16), blob->end());
    }
    EXPECT_EQ(unseal(*blob).value_or("?"), secret);
    EXPECT_EQ(unseal(*blob, "other").error().code, Code::failed_precondition) << "the context is bound";
    ASSERT_EQ(open(config()), "ok");
    EXPECT_EQ(unseal(*blob).value_or("?"), secret);
    ASSERT_TRUE(tpm->reset());
    EXPECT_EQ(unseal(*blob).value_or("?"), secret);
  }
}

TEST_P(TpmSealer, RefusesWhatDoesNotFit) {
  ASSERT_EQ(open(config()), "ok");
  EXPECT_EQ(seal("").error().code, Code::invalid_argument);
  EXPECT_EQ(seal(std::string(4097, 'x')).error().code, Code::invalid_argument);
  EXPECT_EQ(seal("x", std::string(65, 'x')).error().code, Code::invalid_argument);
}

TEST_P(TpmSealer, AnotherOrAClearedTpmIsNamed) {
  ASSERT_EQ(open(config()), "ok");
  const auto blob = seal("secret");
  ASSERT_EQ(outcome(blob), "ok");
  ASSERT_TRUE(tpm->replace());
  EXPECT_EQ(
      outcome(unseal(*blob)),
      "FailedPrecondition: sealer(tpm): it was sealed by another TPM, or this one was cleared since; only the old "
      "TPM can open it");
  ASSERT_TRUE(tpm->bring_back());
  EXPECT_EQ(unseal(*blob).value_or("?"), "secret");
}

TEST_P(TpmSealer, ChangedPcrsAreNamedAndAResetMakesItWhole) {
  ASSERT_EQ(open(config(R"(,"pcrs":[7,11,16])")), "ok");
  const auto blob = seal("secret");
  ASSERT_EQ(outcome(blob), "ok");
  EXPECT_EQ(unseal(*blob).value_or("?"), "secret");
  extend(8);
  EXPECT_EQ(unseal(*blob).value_or("?"), "secret") << "not among them";
  extend(11);
  EXPECT_EQ(
      outcome(unseal(*blob)),
      "FailedPrecondition: sealer(tpm): PCR 11 changed since it was sealed: another firmware, boot loader, kernel or "
      "configuration was started");
  // whatever is configured now, a blob keeps its own policy
  ASSERT_EQ(open(config()), "ok");
  EXPECT_EQ(unseal(*blob).error().code, Code::failed_precondition);
  ASSERT_TRUE(tpm->reset());
  EXPECT_EQ(unseal(*blob).value_or("?"), "secret");
}

TEST_P(TpmSealer, AMachineThatKeepsMeasuringIsWorthAnotherAttempt) {
  ASSERT_EQ(open(config(R"(,"pcrs":[7])")), "ok");
  const auto blob = seal("secret");
  ASSERT_EQ(outcome(blob), "ok");
  constexpr uint32_t kUnseal = 0x15e;
  std::atomic<bool> measures = true;
  const TpmProxy way(
      directory + "/way", tpm->socket(), [](uint32_t) { return std::nullopt; }, nullptr,
      [&measures](uint32_t code) { return measures && code == kUnseal ? extend_command(10) : Bytes(); });
  ASSERT_EQ(open(R"({"device":")" + directory + R"(/way"})"), "ok");
  EXPECT_EQ(
      outcome(unseal(*blob)),
      "Unavailable: sealer(tpm): TPM2_Unseal: TPM_RC_PCR_CHANGED (0x128): a PCR was extended meanwhile; try again");
  measures = false;
  EXPECT_EQ(unseal(*blob).value_or("?"), "secret");
}

// An agent sets its cache aside for FAILED_PRECONDITION, so what only says that something is wrong now is not that.
TEST_P(TpmSealer, OnlyWhatJudgesTheBlobMeansNever) {
  constexpr uint32_t kLoad = 0x157, kStart = 0x176, kPolicyPcr = 0x17f, kUnseal = 0x15e, kCreatePrimary = 0x131;
  std::atomic<uint32_t> command = 0;
  std::atomic<uint32_t> rc = 0;
  const TpmProxy way(directory + "/way", tpm->socket(),
                     [&](uint32_t code) { return code == command ? std::optional(tpm_response(rc)) : std::nullopt; });
  ASSERT_EQ(open(R"({"device":")" + directory + R"(/way"})"), "ok");
  const auto plain = seal("secret");
  ASSERT_EQ(outcome(plain), "ok");
  ASSERT_EQ(open(R"({"device":")" + directory + R"(/way","pcrs":[7]})"), "ok");
  const auto bound = seal("secret");
  ASSERT_EQ(outcome(bound), "ok");

  const auto answer = [&](const Bytes& blob, uint32_t to, uint32_t with) {
    rc = with;
    command = to;
    return outcome(unseal(blob));
  };
  const std::string never = "FailedPrecondition: sealer(tpm): ";
  for (const uint32_t code : {0x1d5u, 0x2cau, 0x2c2u, 0x2c3u, 0x1e5u, 0x095u, 0x08au, 0x082u, 0x0a5u, 0x155u})
    EXPECT_TRUE(answer(*plain, kLoad, code).starts_with(never + "the sealed blob is damaged: TPM2_Load: ")) << code;
  for (const uint32_t code : {0x1dfu, 0x09fu})
    EXPECT_TRUE(answer(*plain, kLoad, code).starts_with(never + "it was sealed by another TPM")) << code;
  for (const uint32_t code : {0x09du, 0x99du, 0x127u})
    EXPECT_TRUE(answer(*bound, kUnseal, code).starts_with(never + "a PCR was extended and reset")) << code;
  EXPECT_TRUE(answer(*bound, kPolicyPcr, 0x1c4).starts_with(never + "a PCR was extended and reset"));

  // of a resource manager, unknown ones, of the parent, of the session, and those that would be final elsewhere
  for (const uint32_t code : {0xb0143u, 0xc0001u, 0xb01dfu, 0x1abu, 0x6ffu, 0x907u, 0x12fu, 0x18au, 0x18bu, 0x98eu,
                              0x125u, 0x126u, 0x127u, 0x99du, 0x184u, 0x09du}) {
    for (const uint32_t to : {kLoad, kStart, kCreatePrimary})
      EXPECT_FALSE(answer(*bound, to, code).starts_with("FailedPrecondition")) << to << ": " << code;
    EXPECT_FALSE(answer(*plain, kUnseal, code).starts_with("FailedPrecondition")) << code;
  }
  for (const uint32_t code : {0x1c4u, 0x1dfu, 0x155u, 0x0a5u}) {
    for (const uint32_t to : {kStart, kCreatePrimary})
      EXPECT_FALSE(answer(*bound, to, code).starts_with("FailedPrecondition")) << to << ": " << code;
  }
  EXPECT_EQ(
      answer(*plain, kLoad, 0x18b),
      "Unavailable: sealer(tpm): TPM2_Load: TPM_RC_HANDLE (0x18b, handle 1): there is no such object in this TPM");
  command = 0;
  EXPECT_EQ(unseal(*plain).value_or("?"), "secret");
  EXPECT_EQ(unseal(*bound).value_or("?"), "secret");
}

TEST_P(TpmSealer, ThePolicyCannotBeTakenOffTheBlob) {
  ASSERT_EQ(open(config(R"(,"pcrs":[16])")), "ok");
  const auto text = seal("secret");
  Blob blob = *decode_blob(*text);
  extend(16);
  blob.pcrs.mask = 0;
  blob.pcr_values.clear();
  EXPECT_FALSE(unseal(encode_blob(blob)));
  blob.pcrs.mask = 1u << 10;
  blob.pcr_values = {Bytes(32)};
  EXPECT_EQ(unseal(encode_blob(blob)).error().code, Code::failed_precondition);
}

TEST_P(TpmSealer, ATpmThatIsAwayIsWorthAnotherAttempt) {
  ASSERT_EQ(open(config()), "ok");
  const auto blob = seal("secret");
  tpm->stop();
  EXPECT_EQ(unseal(*blob).error().code, Code::unavailable);
  EXPECT_EQ(seal("x").error().code, Code::unavailable);
  ASSERT_EQ(open(config()), "ok") << "starting without it";
  ASSERT_TRUE(tpm->start());
  EXPECT_EQ(unseal(*blob).value_or("?"), "secret");
}

TEST_P(TpmSealer, ADamagedBlobIsRefusedWhereverItIsDamaged) {
  ASSERT_EQ(open(config()), "ok");
  const auto blob = seal("secret");
  for (size_t at = 0; at < blob->size(); at += 7) {
    Bytes other = *blob;
    other[at] ^= 0x55;
    const auto refused = unseal(other);
    EXPECT_EQ(refused.error().code, Code::failed_precondition) << at << ": " << refused.error().text();
  }
}

INSTANTIATE_TEST_SUITE_P(Loaded, TpmSealer, ::testing::Values(Carrier::shared_object), carrier_name);

TEST(TpmSealerBlob, IsReadBackAndEveryTruncationIsRefused) {
  Blob blob;
  blob.pcrs = {tpm::kAlgSha256, 0x81};
  blob.pcr_values = {Bytes(32, 1), Bytes(32, 2)};
  blob.root_name = Bytes(34, 3);
  blob.data_key = {Bytes(78, 4), Bytes(100, 5)};
  blob.ciphertext = Bytes(60, 6);
  const Bytes text = encode_blob(blob);
  const auto again = decode_blob(text);
  ASSERT_EQ(outcome(again), "ok");
  EXPECT_EQ(encode_blob(*again), text);
  for (size_t size = 0; size < text.size(); ++size) EXPECT_FALSE(decode_blob(BytesView(text).first(size))) << size;
  Bytes longer = text;
  longer.push_back(0);
  EXPECT_FALSE(decode_blob(longer));
}

}  // namespace
}  // namespace limpet
