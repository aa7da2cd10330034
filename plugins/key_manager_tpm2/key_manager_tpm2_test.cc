// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>
#include <unistd.h>

#include "carriers.h"
#include "crypto/pss.h"
#include "key_manager_tpm2/key_directory.h"
#include "plugin/key_manager_facade.h"
#include "swtpm.h"
#include "tpm_proxy.h"

namespace limpet {
namespace {

using namespace test;
using Keys = std::vector<ManagedKey>;
using key_manager_tpm2::decode_key_file;

class Tpm2Keys : public ShippedPlugin {
 protected:
  void SetUp() override {
    if (!SwTpm::there()) GTEST_SKIP() << "swtpm is not installed";
    tpm = std::make_unique<SwTpm>(directory + "/tpm");
    ASSERT_TRUE(tpm->start());
  }
  std::string keys_directory() { return directory + "/keys"; }
  std::string config() {
    return R"({"device":"swtpm:path=)" + tpm->socket() + R"(","directory":")" + keys_directory() + "\"}";
  }
  // A fresh instance, as after a restart.
  std::string open(const std::string& json) {
    keys.reset();
    auto instance = create("key_manager_tpm2", LIMPET_KEY_MANAGER, kKeyManagerPrefix);
    const std::string result = outcome(configure(*instance, json));
    keys = make_key_manager(instance);
    return result;
  }
  Result<ManagedKey> generate(const std::string& id, KeyType type = KeyType::ec_p256) {
    return wait<ManagedKey>([&](Done<ManagedKey> done) { keys->generate(id, type, std::move(done)); });
  }
  Keys list() {
    auto got = wait<Keys>([&](Done<Keys> done) { keys->list(std::move(done)); });
    EXPECT_TRUE(got) << got.error().text();
    return got ? std::move(*got) : Keys();
  }
  Result<Bytes> sign(const ManagedKey& key, HashAlg alg = HashAlg::sha256) {
    return wait<Bytes>([&](Done<Bytes> done) { keys->sign(key, alg, hash(alg, as_bytes("data")), std::move(done)); });
  }
  void expect_signs(const ManagedKey& key) {
    const HashAlg alg = hash_for(key.type);
    const auto signature = sign(key, alg);
    ASSERT_EQ(outcome(signature), "ok");
    EXPECT_TRUE(key.key.verify(alg, hash(alg, as_bytes("data")), *signature));
  }
  std::vector<std::string> files() {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(keys_directory()))
      out.push_back(entry.path().string());
    std::sort(out.begin(), out.end());
    return out;
  }
  std::unique_ptr<SwTpm> tpm;
  std::unique_ptr<KeyManager> keys;
};

TEST_P(Tpm2Keys, RefusesAConfigurationThatItDoesNotUnderstand) {
  const std::string prefix = "InvalidArgument: keymanager(tpm2): ";
  EXPECT_EQ(open("{}"), prefix + "set directory, where the TPM's keys are kept");
  EXPECT_EQ(open(R"({"directory":"/x","pin":"1"})"),
            prefix + "unknown key \"pin\"; known: device, directory, owner_auth_file");
  EXPECT_TRUE(open(R"({"directory":"/x","device":"tabrmd:"})").starts_with(prefix + "device: TPM \"tabrmd:\" is not"));
  EXPECT_TRUE(open(R"({"directory":"/x","owner_auth_file":"/no/such"})")
                  .starts_with("FailedPrecondition: keymanager(tpm2): owner_auth_file: /no/such: "));
}

TEST_P(Tpm2Keys, TheOwnersPasswordComesFromAFileThatNotEverybodyMayRead) {
  const std::string file = directory + "/owner";
  const std::string json = R"({"directory":")" + directory + R"(/keys","owner_auth_file":")" + file + "\"}";
  const std::string begin = "FailedPrecondition: keymanager(tpm2): owner_auth_file: " + file + ": ";
  write(file, "owned\r\n");
  for (const mode_t mode : {0602, 0604}) {
    ::chmod(file.c_str(), mode);
    EXPECT_EQ(open(json), begin + "every user may read or write it; run chmod o-rw on it") << mode;
  }
  ::chmod(file.c_str(), 0660);
  write(file, std::string(64, 'x') + "\r\n");
  EXPECT_EQ(open(json), "ok");
  write(file, std::string(65, 'x'));
  EXPECT_EQ(open(json), begin + "a TPM password has at most 64 bytes");
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  EXPECT_EQ(open(json), begin + "it is not a regular file");
}

TEST_P(Tpm2Keys, KeysOfEachTypeSignAndSurviveRestartAndReset) {
  ASSERT_EQ(open(config()), "ok");
  std::vector<ManagedKey> made;
  for (const auto& [id, type] : {std::pair{"agent-svid-A", KeyType::ec_p256},
                                 {"p384", KeyType::ec_p384},
                                 {"rsa \"quoted\"\n", KeyType::rsa_2048}}) {
    const auto key = generate(id, type);
    ASSERT_EQ(outcome(key), "ok");
    EXPECT_EQ(key->type, type);
    EXPECT_EQ(key->fingerprint, hex_encode(sha256(key->key.spki())));
    expect_signs(*key);
    expect_signs(*key);  // from the saved context
    made.push_back(*key);
  }
  for (const bool reset : {false, true}) {
    if (reset) {
      ASSERT_TRUE(tpm->reset());
    } else {
      ASSERT_EQ(open(config()), "ok");
    }
    const Keys kept = list();
    ASSERT_EQ(kept.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(kept[i].id, made[i].id);
      EXPECT_EQ(kept[i].key, made[i].key);
      EXPECT_EQ(kept[i].fingerprint, made[i].fingerprint);
      expect_signs(kept[i]);
    }
  }
}

TEST_P(Tpm2Keys, RsaKeysSignWithPssTooAndOthersDoNot) {
  ASSERT_EQ(open(config()), "ok");
  const auto rsa = generate("rsa", KeyType::rsa_2048);
  const auto ec = generate("ec");
  ASSERT_EQ(outcome(ec), "ok");
  ASSERT_EQ(outcome(rsa), "ok");
  const auto sign_pss = [this](const ManagedKey& key, HashAlg alg, int32_t salt) {
    return wait<Bytes>(
        [&](Done<Bytes> done) { keys->sign_pss(key, alg, salt, hash(alg, as_bytes("data")), std::move(done)); });
  };
  for (const HashAlg alg : {HashAlg::sha256, HashAlg::sha384, HashAlg::sha512}) {
    const auto signature = sign_pss(*rsa, alg, static_cast<int32_t>(hash(alg, {}).size()));
    ASSERT_EQ(outcome(signature), "ok");
    EXPECT_EQ(outcome(verify_pss(rsa->key, hash(alg, as_bytes("data")), *signature, alg)), "ok");
    EXPECT_FALSE(rsa->key.verify(alg, hash(alg, as_bytes("data")), *signature)) << "this would be PKCS#1 v1.5";
  }
  expect_signs(*rsa);
  EXPECT_EQ(outcome(sign_pss(*ec, HashAlg::sha256, 32)),
            "InvalidArgument: keymanager(tpm2): PSS is for RSA keys; this one is not");
}

TEST_P(Tpm2Keys, ANewKeyBehindAnIdIsNoticedAndARemovedOneIsGone) {
  ASSERT_EQ(open(config()), "ok");
  const auto first = generate("k");
  const auto second = generate("k");
  ASSERT_EQ(outcome(second), "ok");
  EXPECT_NE(first->fingerprint, second->fingerprint);
  EXPECT_EQ(sign(*first).error().code, Code::failed_precondition);
  expect_signs(*second);
  EXPECT_EQ(outcome(wait<void>([&](Done<void> done) { keys->remove("k", std::move(done)); })), "ok");
  EXPECT_EQ(sign(*second).error().code, Code::not_found);
  EXPECT_EQ(wait<void>([&](Done<void> done) { keys->remove("k", std::move(done)); }).error().code, Code::not_found);
  ASSERT_EQ(open(config()), "ok");
  EXPECT_TRUE(list().empty());
  EXPECT_EQ(files(), (std::vector{keys_directory() + "/lock"}));
}

TEST_P(Tpm2Keys, FilesArePrivateAndHoldNoUsableKey) {
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(outcome(generate("k")), "ok");
  ASSERT_EQ(files().size(), 2u);
  struct stat st = {};
  ASSERT_EQ(::stat(files()[0].c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat(keys_directory().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
  EXPECT_TRUE(read(files()[0]).starts_with(R"({"version":1,"id":"k","public":")")) << read(files()[0]);
}

TEST_P(Tpm2Keys, AnotherTpmsKeysAreNotListedNotDeletedAndUsableAgainWithTheirOwn) {
  ASSERT_EQ(open(config()), "ok");
  const auto key = generate("k");
  ASSERT_EQ(outcome(key), "ok");
  const std::string file = files()[0];
  const std::string text = read(file);
  ASSERT_TRUE(tpm->replace());
  const std::string error =
      "FailedPrecondition: keymanager(tpm2): key k was made by another TPM, or this one was cleared since; its file " +
      file + " was left untouched: bring the old TPM back, or let a new key be made";
  EXPECT_EQ(outcome(sign(*key)), error);
  ASSERT_EQ(open(config()), "ok");
  EXPECT_TRUE(list().empty());
  EXPECT_EQ(outcome(sign(*key)), error);
  EXPECT_EQ(read(file), text);
  // a new key takes its place, and the old file stays beside it
  const auto fresh = generate("k");
  ASSERT_EQ(outcome(fresh), "ok");
  expect_signs(*fresh);
  EXPECT_EQ(read(file + ".other-tpm-" + key->fingerprint.substr(0, 8)), text);
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(list().size(), 1u);
  expect_signs(list()[0]);
  // the old TPM is back, and its file with it
  write(file, text);
  ASSERT_TRUE(tpm->bring_back());
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(list().size(), 1u);
  expect_signs(*key);
}

TEST_P(Tpm2Keys, WithoutTheTpmItStartsListsAndSaysWhatIsMissing) {
  ASSERT_EQ(open(config()), "ok");
  const auto key = generate("k");
  ASSERT_EQ(outcome(key), "ok");
  tpm->stop();
  EXPECT_EQ(sign(*key).error().code, Code::unavailable);
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(list().size(), 1u);
  const auto lost = sign(*key);
  EXPECT_EQ(outcome(lost),
            "Unavailable: keymanager(tpm2): TPM " + tpm->socket() + ": cannot connect: no such file or directory");
  EXPECT_EQ(generate("k2").error().code, Code::unavailable);
  EXPECT_EQ(files().size(), 2u);
  ASSERT_TRUE(tpm->start());
  expect_signs(*key);
  EXPECT_EQ(outcome(generate("k2")), "ok");
}

TEST_P(Tpm2Keys, ATpmThatSomebodyElseUsesIsWaitedFor) {
  ASSERT_EQ(open(config()), "ok");
  const auto key = generate("k");
  ASSERT_EQ(outcome(key), "ok");
  tpm->pause();
  std::optional<Result<Bytes>> got;
  Waiter<Bytes> waiter;
  keys->sign(*key, HashAlg::sha256, sha256(as_bytes("data")), waiter.arm());
  for (int i = 0; i < 20; ++i) {
    loop.run_ready();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_FALSE(waiter.result);
  tpm->go_on();
  for (int turn = 0; turn < 60'000 && !waiter.result; ++turn) {
    if (loop.run_ready() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_TRUE(waiter.result);
  EXPECT_EQ(outcome(*waiter.result), "ok");
}

// A busy TPM costs one command's patience, and the next signature no more than others do.
TEST_P(Tpm2Keys, WhatWasLoadedOnceIsKeptWhileTheTpmCannotLoadIt) {
  constexpr uint32_t kContextLoad = 0x161;
  constexpr uint32_t kCreatePrimary = 0x131;
  constexpr uint32_t kLoad = 0x157;
  std::atomic<bool> busy = false;
  std::atomic<int> loads = 0;
  std::atomic<int> others = 0;
  const TpmProxy way(directory + "/way", tpm->socket(), [&](uint32_t code) -> std::optional<Bytes> {
    if (code == kContextLoad) ++loads;
    if (code == kCreatePrimary || code == kLoad) ++others;
    // no memory now: the plugin has no patience of its own for that, so that the test needs none
    return busy && code == kContextLoad ? std::optional(tpm_response(0x902)) : std::nullopt;
  });
  ASSERT_EQ(open(R"({"device":")" + directory + R"(/way","directory":")" + keys_directory() + "\"}"), "ok");
  const auto first = generate("first");
  const auto second = generate("second");
  ASSERT_EQ(outcome(second), "ok");
  expect_signs(*first);
  for (const auto& key : {*first, *second}) {  // saved itself, and from the saved root
    busy = true;
    loads = others = 0;
    EXPECT_TRUE(outcome(sign(key)).starts_with("Unavailable: "));
    EXPECT_EQ(loads, 1);
    EXPECT_EQ(others, 0);
    busy = false;
    expect_signs(key);
    EXPECT_EQ(loads, 2);
    EXPECT_EQ(others, key.id == "first" ? 0 : 1) << "TPM2_Load of what had not been loaded";
  }
}

TEST_P(Tpm2Keys, ManySignaturesAtOnceAreMadeOneAfterAnother) {
  ASSERT_EQ(open(config()), "ok");
  const auto key = generate("k");
  ASSERT_EQ(outcome(key), "ok");
  std::vector<std::unique_ptr<Waiter<Bytes>>> waiters;
  for (int i = 0; i < 20; ++i) {
    waiters.push_back(std::make_unique<Waiter<Bytes>>());
    keys->sign(*key, HashAlg::sha256, sha256(as_bytes("data")), waiters.back()->arm());
  }
  for (const auto& waiter : waiters) {
    for (int turn = 0; turn < 60'000 && !waiter->result; ++turn) {
      if (loop.run_ready() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ASSERT_TRUE(waiter->result);
    EXPECT_EQ(outcome(*waiter->result), "ok");
  }
}

TEST_P(Tpm2Keys, WhatTheTpmLacksIsSaid) {
  ASSERT_EQ(open(config()), "ok");
  const auto refused = generate("k", KeyType::rsa_4096);
  EXPECT_EQ(refused.error().code, Code::unimplemented) << refused.error().text();
  EXPECT_TRUE(list().empty());
  EXPECT_EQ(generate("").error().code, Code::invalid_argument);
  EXPECT_EQ(generate(std::string(256, 'k')).error().code, Code::invalid_argument);
}

TEST_P(Tpm2Keys, ADamagedFileIsNamedAndLeftUntouched) {
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(outcome(generate("k")), "ok");
  const std::string file = files()[0];
  const std::string good = read(file);
  keys.reset();
  for (const std::string& text : {std::string(), std::string("{"), std::string("[]"), std::string(R"({"version":2})"),
                                  good.substr(0, good.size() / 2), std::string(20'000, ' ')}) {
    write(file, text);
    const std::string error = open(config());
    EXPECT_TRUE(error.starts_with("FailedPrecondition: keymanager(tpm2): ")) << error;
    EXPECT_NE(error.find(file), std::string::npos) << error;
    EXPECT_EQ(read(file), text);
  }
  write(file, good);
  write(keys_directory() + "/copy.tpm2key", good);
  EXPECT_NE(open(config()).find("its name is not the one of its key"), std::string::npos);
  std::filesystem::remove(keys_directory() + "/copy.tpm2key");
  EXPECT_EQ(open(config()), "ok");
}

TEST_P(Tpm2Keys, AKeyThatCannotBeSavedIsNotHandedOut) {
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(outcome(generate("old")), "ok");
  std::filesystem::rename(keys_directory(), directory + "/elsewhere");
  EXPECT_EQ(generate("new").error().code, Code::unavailable);
  std::filesystem::rename(directory + "/elsewhere", keys_directory());
  EXPECT_EQ(list().size(), 1u);
  EXPECT_EQ(outcome(generate("new")), "ok");
}

TEST_P(Tpm2Keys, TwoInstancesDoNotShareADirectory) {
  ASSERT_EQ(open(config()), "ok");
  auto other = create("key_manager_tpm2", LIMPET_KEY_MANAGER, kKeyManagerPrefix);
  EXPECT_EQ(outcome(configure(*other, config())), "FailedPrecondition: keymanager(tpm2): key directory " +
                                                      keys_directory() + " is not usable: " + keys_directory() +
                                                      "/lock is held by another instance; give each its own directory");
  EXPECT_EQ(outcome(configure(*other, config(), true)), "ok") << "a dry run may look";
  other->close();
}

TEST_P(Tpm2Keys, ADryRunNeedsNoTpmAndCreatesNothing) {
  tpm->stop();
  auto instance = create("key_manager_tpm2", LIMPET_KEY_MANAGER, kKeyManagerPrefix);
  EXPECT_EQ(outcome(configure(*instance, config(), true)), "ok");
  EXPECT_FALSE(std::filesystem::exists(keys_directory()));
  instance->close();
}

INSTANTIATE_TEST_SUITE_P(Loaded, Tpm2Keys, ::testing::Values(Carrier::shared_object), carrier_name);

TEST(Tpm2KeyFile, EveryTruncationAndForeignValueIsRefused) {
  const std::string good =
      R"({"version":1,"id":"k","public":")" +
      base64_encode(*hex_decode("0023000b0004047200000010001000030010"
                                "0020"
                                "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
                                "0020"
                                "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")) +
      R"(","private":"AAAA","root":"AAAA"})";
  ASSERT_TRUE(decode_key_file(good)) << decode_key_file(good).error().text();
  for (size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(decode_key_file(good.substr(0, size))) << size;
  for (const char* name : {"version", "id", "public", "private", "root"}) {
    std::string other = good;
    other.replace(other.find(name), 1, "x");
    EXPECT_FALSE(decode_key_file(other)) << name;
  }
}

}  // namespace
}  // namespace limpet
