// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/device.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "crypto/x509.h"
#include "swtpm.h"

namespace limpet::tpm {
namespace {

template <class T>
std::string outcome(const Result<T>& result) {
  return result ? "ok" : result.error().text();
}

class TpmDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test::SwTpm::there()) GTEST_SKIP() << "swtpm is not installed";
    ASSERT_NE(::mkdtemp(directory.data()), nullptr);
    swtpm = std::make_unique<test::SwTpm>(directory + "/tpm");
    ASSERT_TRUE(swtpm->start());
    device = make_device();
  }
  void TearDown() override {
    swtpm.reset();
    std::filesystem::remove_all(directory);
  }
  std::unique_ptr<Device> make_device(int64_t answer_ms = 20'000) {
    DeviceSettings settings;
    settings.address = *parse_address(swtpm->socket());
    settings.answer_ms = answer_ms;
    settings.busy_ms = 300;
    return std::make_unique<Device>(std::move(settings));
  }
  std::unique_ptr<Tpm> open() {
    auto tpm = device->open();
    EXPECT_TRUE(tpm) << tpm.error().text();
    return tpm ? std::move(*tpm) : nullptr;
  }

  std::string directory = ::testing::TempDir() + "limpet_tpm_XXXXXX";
  std::unique_ptr<test::SwTpm> swtpm;
  std::unique_ptr<Device> device;
};

TEST(TpmAddress, KnowsDevicesSocketsAndSoftwareTpms) {
  const struct {
    const char* text;
    const char* means;
  } good[] = {
      {"", "(the machine's own)"},
      {"/dev/tpmrm0", "/dev/tpmrm0"},
      {"device:/dev/tpm0", "/dev/tpm0"},
      {"device:", "(the machine's own)"},
      {"swtpm:host=10.0.0.1,port=77", "swtpm:host=10.0.0.1,port=77"},
      {"swtpm:", "swtpm:host=127.0.0.1,port=2321"},
      {"swtpm:path=/run/x.sock", "/run/x.sock"},
  };
  for (const auto& [text, means] : good) {
    const auto address = parse_address(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->text(), means);
  }
  for (const char* text :
       {"tabrmd:", "dev/tpm0", "swtpm:port=", "swtpm:port=x", "swtpm:host", "swtpm:ports=1", "device:tpm0"}) {
    EXPECT_EQ(parse_address(text).error().code, Code::invalid_argument) << text;
  }
}

TEST(TpmResponseCode, IsNamedWithItsPlaceAndTheNextStep) {
  EXPECT_EQ(code_text(0x1df), "TPM_RC_INTEGRITY (0x1df, parameter 1)");
  EXPECT_EQ(code_text(0x98e), "TPM_RC_AUTH_FAIL (0x98e, session 1)");
  EXPECT_EQ(code_text(0x18b), "TPM_RC_HANDLE (0x18b, handle 1)");
  EXPECT_EQ(code_text(0x922), "TPM_RC_RETRY (0x922)");
  EXPECT_EQ(code_text(0x7ff), "TPM response (0x7ff, parameter 7)");
  EXPECT_EQ(code_text(0xa000a), "error 0xa000a of the TPM library");
  EXPECT_EQ(error_of("TPM2_Load", 0x1df).code, Code::failed_precondition);
  EXPECT_EQ(error_of("TPM2_Sign", 0x921).code, Code::unavailable);
  EXPECT_NE(error_of("TPM2_Sign", 0x921).message.find("lockout"), std::string::npos);
}

// FAILED_PRECONDITION is taken for "for good": whoever hears it makes new keys and puts away what the old ones protect.
TEST(TpmResponseCode, WhatIsSwitchedOffNowIsNotLost) {
  for (const uint32_t rc : {0x120u, 0x085u, 0x185u, 0x1c5u})
    EXPECT_EQ(error_of("TPM2_CreatePrimary", rc).code, Code::unavailable) << std::hex << rc;
  for (const uint32_t rc : {0x127u, 0x09du, 0x99du, 0x09fu, 0x1dfu, 0x155u})
    EXPECT_EQ(error_of("TPM2_Load", rc).code, Code::failed_precondition) << std::hex << rc;
}

TEST_F(TpmDevice, SaysWhatItIs) {
  auto tpm = open();
  const auto info = tpm->info();
  ASSERT_EQ(outcome(info), "ok");
  EXPECT_EQ(info->manufacturer, "IBM");
  EXPECT_FALSE(info->model.empty());
  EXPECT_EQ(std::ranges::count(info->firmware, '.'), 3);
  EXPECT_TRUE(*tpm->has_curve(kCurveP256));
  EXPECT_FALSE(*tpm->has_curve(0x7777));
  const auto banks = tpm->pcr_banks();
  ASSERT_EQ(outcome(banks), "ok");
  EXPECT_NE(std::ranges::find(*banks, kAlgSha256), banks->end());
}

TEST_F(TpmDevice, MakesKeysThatSignAndAreTheSameAfterAReset) {
  for (const KeyType type : {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048}) {
    auto tpm = open();
    auto srk = tpm->create_primary(Hierarchy::owner, srk_ecc());
    ASSERT_EQ(outcome(srk), "ok");
    const auto made = tpm->create(*srk, signing_key(type));
    ASSERT_EQ(outcome(made), "ok");
    const auto key = public_key_of(made->blob.public_area);
    ASSERT_EQ(outcome(key), "ok");
    EXPECT_EQ(*key_type_of(made->blob.public_area), type);
    Bytes saved;
    Bytes name;
    const HashAlg alg = hash_for(type);
    const Bytes digest = hash(alg, as_bytes("data"));
    {
      auto loaded = tpm->load(*srk, made->blob);
      ASSERT_EQ(outcome(loaded), "ok");
      const auto signature = tpm->sign(*loaded, alg, digest);
      ASSERT_EQ(outcome(signature), "ok");
      EXPECT_TRUE(key->verify(alg, digest, *signature));
      EXPECT_TRUE(key->verify(alg, digest, *tpm->sign_message(*loaded, alg, as_bytes("data"))));
      saved = *tpm->save(*loaded);
      name = loaded->name();
    }
    srk = Result<Object>(tpm->load_saved(saved, made->blob.public_area, name));
    ASSERT_EQ(outcome(srk), "ok");
    EXPECT_TRUE(key->verify(alg, digest, *tpm->sign(*srk, alg, digest)));
    srk = fail(Code::cancelled, "");
    tpm.reset();
    ASSERT_TRUE(swtpm->reset());
    tpm = open();
    EXPECT_EQ(tpm->load_saved(saved, {}, {}).error().code, Code::failed_precondition);
    srk = Result<Object>(tpm->create_primary(Hierarchy::owner, srk_ecc()));
    ASSERT_EQ(outcome(srk), "ok");
    auto again = tpm->load(*srk, made->blob);
    ASSERT_EQ(outcome(again), "ok");
    EXPECT_TRUE(key->verify(alg, digest, *tpm->sign(*again, alg, digest)));
  }
}

TEST_F(TpmDevice, RefusesAnotherTpmsKeys) {
  auto tpm = open();
  KeyBlob blob;
  {
    auto srk = tpm->create_primary(Hierarchy::owner, srk_ecc());
    ASSERT_EQ(outcome(srk), "ok");
    blob = tpm->create(*srk, signing_key(KeyType::ec_p256))->blob;
  }
  tpm.reset();
  ASSERT_TRUE(swtpm->replace());
  tpm = open();
  auto srk = tpm->create_primary(Hierarchy::owner, srk_ecc());
  const auto refused = tpm->load(*srk, blob);
  EXPECT_EQ(outcome(refused),
            "FailedPrecondition: TPM2_Load: TPM_RC_INTEGRITY (0x1df, parameter 1): it was made by another TPM, or this "
            "one was cleared since; nothing was deleted: bring the old TPM back, or move the file away and start anew");
  EXPECT_EQ(base_code(tpm->last_rc()), kRcIntegrity);
}

TEST_F(TpmDevice, FlushesWhatItLoaded) {
  auto tpm = open();
  for (int i = 0; i < 10; ++i) ASSERT_EQ(outcome(tpm->create_primary(Hierarchy::owner, srk_ecc())), "ok") << i;
  std::vector<Object> held;
  Result<Object> more = tpm->create_primary(Hierarchy::owner, srk_ecc());
  while (more) {
    held.push_back(std::move(*more));
    more = tpm->create_primary(Hierarchy::owner, srk_ecc());
  }
  EXPECT_EQ(more.error().code, Code::unavailable);
  EXPECT_NE(more.error().message.find("TPM_RC_OBJECT_MEMORY"), std::string::npos) << more.error().text();
  held.clear();
  tpm.reset();
  tpm = open();
  EXPECT_EQ(outcome(tpm->create_primary(Hierarchy::owner, srk_rsa())), "ok");
}

TEST_F(TpmDevice, QuotesCertifiesAndActivates) {
  auto tpm = open();
  auto srk = tpm->create_primary(Hierarchy::owner, srk_rsa());
  ASSERT_EQ(outcome(srk), "ok");
  const auto made = tpm->create(*srk, ak_rsa(true));
  ASSERT_EQ(outcome(made), "ok");
  auto ak = tpm->load(*srk, made->blob);
  ASSERT_EQ(outcome(ak), "ok");
  srk = fail(Code::cancelled, "");
  const auto key = public_key_of(ak->public_area());
  const auto check = [&](const Result<Attested>& got, uint8_t type) {
    ASSERT_EQ(outcome(got), "ok");
    EXPECT_EQ(hex_encode(BytesView(got->attest).first(5)), "ff54434780");
    EXPECT_EQ(got->attest[5], type);
    EXPECT_TRUE(key->verify(HashAlg::sha256, sha256(got->attest), *plain_signature(got->signature)));
  };
  check(tpm->certify_creation(*ak, *ak, *made), 0x1a);
  check(tpm->certify(*ak, *ak), 0x17);
  check(tpm->quote(*ak, as_bytes("nonce"), {{PcrSelection{kAlgSha256, 0x81}}}), 0x18);
  for (const EkKind kind : {EkKind::rsa_2048, EkKind::ecc_p256}) {
    auto ek = tpm->create_ek(kind, true);
    ASSERT_EQ(outcome(ek), "ok");
    const auto refused = tpm->activate_credential(*ak, *ek, Bytes(68, 1), Bytes(256, 1));
    EXPECT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("TPM2_ActivateCredential"), std::string::npos) << refused.error().text();
    EXPECT_EQ(tpm->ek_certificate(kind).error().code, Code::not_found);
    EXPECT_EQ(tpm->activate_credential(*ak, *ek, Bytes(5000), {}).error().code, Code::invalid_argument);
  }
  EXPECT_EQ(tpm->read_persistent(0x81000001).error().code, Code::not_found);
}

TEST_F(TpmDevice, SealsUnderPcrs) {
  auto tpm = open();
  const PcrSelection pcrs = {kAlgSha256, 1u << 7 | 1u << 16 | 1u << 23};
  const auto before = tpm->read_pcrs({kAlgSha256, 0xffffff});
  ASSERT_EQ(outcome(before), "ok");
  ASSERT_EQ(before->size(), 24u);
  EXPECT_EQ((*before)[17], Bytes(32, 0xff)) << "the locality PCRs start with ones";
  auto srk = tpm->create_primary(Hierarchy::owner, srk_ecc());
  const auto policy = tpm->pcr_policy(pcrs, *tpm->read_pcrs(pcrs));
  ASSERT_EQ(outcome(policy), "ok");
  const auto sealed = tpm->create(*srk, sealed_data(*policy), {}, as_bytes("thirty-two bytes of a data key.."));
  ASSERT_EQ(outcome(sealed), "ok");
  auto object = tpm->load(*srk, sealed->blob);
  ASSERT_EQ(outcome(object), "ok");
  EXPECT_EQ(as_text(tpm->unseal(*object, *srk, pcrs)->view()), "thirty-two bytes of a data key..");
  EXPECT_FALSE(tpm->unseal(*object, *srk)) << "the password is no way around the policy";
  ASSERT_EQ(outcome(tpm->extend_pcr(16, sha256(as_bytes("event")))), "ok");
  const auto refused = tpm->unseal(*object, *srk, pcrs);
  EXPECT_EQ(refused.error().code, Code::failed_precondition) << refused.error().text();
  EXPECT_NE(refused.error().message.find("TPM_RC_POLICY_FAIL"), std::string::npos) << refused.error().text();
  EXPECT_FALSE(tpm->read_pcrs({0x7777, 1}));
}

TEST_F(TpmDevice, ThePolicyIsOfTheGivenValuesNotOfThePresentOnes) {
  auto tpm = open();
  const PcrSelection pcrs = {kAlgSha256, 1u << 16 | 1u << 23};
  const auto before = tpm->read_pcrs(pcrs);
  const Bytes event = sha256(as_bytes("event"));
  Bytes extended = (*before)[0];
  append(extended, event);
  const auto policy = tpm->pcr_policy(pcrs, {sha256(extended), (*before)[1]});
  ASSERT_EQ(outcome(policy), "ok");
  EXPECT_NE(*policy, *tpm->pcr_policy(pcrs, *before));
  auto srk = tpm->create_primary(Hierarchy::owner, srk_ecc());
  const auto sealed = tpm->create(*srk, sealed_data(*policy), {}, as_bytes("secret"));
  ASSERT_EQ(outcome(sealed), "ok");
  auto object = tpm->load(*srk, sealed->blob);
  EXPECT_EQ(tpm->unseal(*object, *srk, pcrs).error().code, Code::failed_precondition) << "not as they are now";
  ASSERT_EQ(outcome(tpm->extend_pcr(16, event)), "ok");
  EXPECT_EQ(as_text(tpm->unseal(*object, *srk, pcrs)->view()), "secret");
}

TEST_F(TpmDevice, SaysThatTheTpmIsNotThereAndFindsItAgain) {
  auto tpm = open();
  ASSERT_EQ(outcome(tpm->info()), "ok");
  swtpm->stop();
  const auto lost = tpm->info();
  EXPECT_EQ(lost.error().code, Code::unavailable) << lost.error().text();
  EXPECT_EQ(tpm->last_rc(), kRcNoAnswer);
  EXPECT_EQ(tpm->info().error().code, Code::unavailable) << "and no further wait";
  tpm.reset();
  const auto absent = device->open();
  EXPECT_EQ(absent.error().code, Code::unavailable);
  EXPECT_NE(absent.error().message.find(swtpm->socket()), std::string::npos) << absent.error().text();
  ASSERT_TRUE(swtpm->start());
  EXPECT_EQ(outcome(open()->info()), "ok");
}

TEST_F(TpmDevice, DoesNotWaitForeverForASilentTpm) {
  device = make_device(2'000);
  auto tpm = open();
  ASSERT_EQ(outcome(tpm->info()), "ok");
  swtpm->pause();
  const auto silent = tpm->info();
  swtpm->go_on();
  EXPECT_EQ(silent.error().code, Code::unavailable);
  EXPECT_NE(silent.error().message.find("no answer"), std::string::npos) << silent.error().text();
  tpm.reset();
  EXPECT_EQ(outcome(open()->info()), "ok");
}

TEST_F(TpmDevice, StartsASoftwareTpmThatNobodyStarted) {
  swtpm->stop();
  ASSERT_TRUE(swtpm->start(false));
  EXPECT_EQ(outcome(open()->info()), "ok");
}

TEST_F(TpmDevice, TakesTheOwnersPassword) {
  // swtpm has an empty one
  DeviceSettings settings;
  settings.address = *parse_address(swtpm->socket());
  settings.owner_auth = SecretBytes(as_bytes("wrong"));
  const Device wrong(std::move(settings));
  auto tpm = *wrong.open();
  const auto refused = tpm->create_primary(Hierarchy::owner, srk_ecc());
  EXPECT_EQ(refused.error().code, Code::permission_denied) << refused.error().text();
}

TEST(TpmDeviceNode, ThatIsMissingOrForbiddenIsNamed) {
  DeviceSettings settings;
  settings.address = *parse_address("/dev/no-such-tpm");
  const Device device(std::move(settings));
  EXPECT_EQ(outcome(device.open()),
            "Unavailable: TPM /dev/no-such-tpm: cannot be opened: no such file or directory; load the TPM's driver, or "
            "name another in `device`");
}

TEST(TpmTemplates, MalformedPublicAreasAndSignaturesAreRefused) {
  for (const Bytes& area : {srk_rsa(), srk_ecc(), ek_rsa(), ek_ecc(), ak_rsa(false), ak_ecc(true)}) {
    for (size_t size = 0; size < area.size(); ++size) EXPECT_FALSE(public_key_of(BytesView(area).first(size))) << size;
    Bytes longer = area;
    longer.push_back(0);
    EXPECT_FALSE(public_key_of(longer));
  }
  EXPECT_FALSE(public_key_of(sealed_data()));
  const Bytes ecdsa = *hex_decode("0018000b00020102000203040000");
  for (size_t size = 0; size < ecdsa.size(); ++size) {
    EXPECT_EQ(plain_signature(BytesView(ecdsa).first(size)).has_value(), size == 12) << size;
  }
  EXPECT_FALSE(plain_signature(*hex_decode("0010")));
}

}  // namespace
}  // namespace limpet::tpm
