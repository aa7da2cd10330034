// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "carriers.h"
#include "plugin/key_manager_facade.h"
#include "support/fake_services.h"

namespace limpet {
namespace {

using namespace test;
using Keys = std::vector<ManagedKey>;

class DiskKeys : public ShippedPlugin {
 protected:
  std::string path() { return directory + "/keys.json"; }
  std::string config() { return R"({"keys_path":")" + path() + "\"}"; }
  // A fresh instance, as after a restart.
  std::string open(const std::string& json) {
    keys.reset();
    auto instance = create("key_manager_disk", LIMPET_KEY_MANAGER, kKeyManagerPrefix);
    const std::string result = outcome(configure(*instance, json));
    keys = make_key_manager(instance);
    return result;
  }
  std::string dry_run(const std::string& json) {
    auto instance = create("key_manager_disk", LIMPET_KEY_MANAGER, kKeyManagerPrefix);
    const std::string result = outcome(configure(*instance, json, true));
    instance->close();
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
  Result<Bytes> sign(const ManagedKey& key) {
    return wait<Bytes>(
        [&](Done<Bytes> done) { keys->sign(key, HashAlg::sha256, sha256(as_bytes("data")), std::move(done)); });
  }
  std::unique_ptr<KeyManager> keys;
};

TEST_P(DiskKeys, RefusesAConfigurationWithoutOnePlace) {
  const std::string either =
      "InvalidArgument: keymanager(disk): set either keys_path, the file to keep keys in, or directory, where the file "
      "is keys.json";
  EXPECT_EQ(open("{}"), either);
  EXPECT_EQ(open(R"({"keys_path":"a","directory":"b"})"), either);
  EXPECT_EQ(open(R"({"keys_file":"a"})"),
            "InvalidArgument: keymanager(disk): unknown key \"keys_file\"; known: directory, keys_path, sealed");
}

TEST_P(DiskKeys, KeysSurviveARestartAndStillSign) {
  ASSERT_EQ(open(config()), "ok");
  const auto made = generate("x509-CA-A");
  ASSERT_EQ(outcome(made), "ok");
  ASSERT_EQ(outcome(generate("rsa \"quoted\"\n", KeyType::rsa_2048)), "ok");
  ASSERT_EQ(open(config()), "ok");
  const Keys kept = list();
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept[0].id, "rsa \"quoted\"\n");
  EXPECT_EQ(kept[0].type, KeyType::rsa_2048);
  EXPECT_EQ(kept[1].id, "x509-CA-A");
  EXPECT_EQ(kept[1].fingerprint, made->fingerprint);
  EXPECT_EQ(kept[1].key, made->key);
  const auto signature = sign(kept[1]);
  ASSERT_EQ(outcome(signature), "ok");
  EXPECT_TRUE(made->key.verify(HashAlg::sha256, sha256(as_bytes("data")), *signature));
}

TEST_P(DiskKeys, TheFileIsPrivateAndNothingElseIsLeftBesideIt) {
  ASSERT_EQ(open(R"({"directory":")" + directory + "/new\"}"), "ok");
  ASSERT_EQ(outcome(generate("k")), "ok");
  struct stat st = {};
  ASSERT_EQ(::stat((directory + "/new/keys.json").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory + "/new"))
    names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"keys.json", "keys.json.lock"}));
  EXPECT_TRUE(read(directory + "/new/keys.json").starts_with(R"({"keys":{"k":"M)"));
}

TEST_P(DiskKeys, ReadsTheFileThatGoWrites) {
  const auto key = PrivateKey::generate(KeyType::ec_p256);
  ASSERT_TRUE(key);
  write(path(), "{\n\t\"keys\": {\n\t\t\"agent-svid-A\": \"" + base64_encode(key->pkcs8().view()) + "\"\n\t}\n}");
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(list().size(), 1u);
  EXPECT_EQ(list()[0].key, key->public_key());
  write(path(), R"({"keys":null})");
  ASSERT_EQ(open(config()), "ok");
  EXPECT_TRUE(list().empty());
}

TEST_P(DiskKeys, ADamagedFileIsAnErrorThatSaysWhatToDoAndIsLeftUntouched) {
  const auto key = PrivateKey::generate(KeyType::ec_p256);
  const std::string good = base64_encode(key->pkcs8().view());
  const std::string damaged[] = {
      "",
      "{",
      "null",
      "[]",
      "{}",
      R"({"keys":[]})",
      R"({"keys":{"k":5}})",
      R"({"keys":{"k":"%%%"}})",
      R"({"keys":{"k":"AAAA"}})",
      R"({"keys":{"k":")" + good.substr(0, good.size() / 2 / 4 * 4) + "\"}}",
      R"({"keys":{"k":")" + good + R"(","k":")" + good + "\"}}",
      R"({"keys":{"k":")" + good + "\"}} x",
      std::string(5u << 20, ' '),
  };
  for (const std::string& text : damaged) {
    write(path(), text);
    const std::string error = open(config());
    EXPECT_TRUE(error.starts_with("FailedPrecondition: keymanager(disk): key file " + path() + " is damaged ("))
        << error;
    EXPECT_NE(error.find("it was left untouched: restore it from a backup, or move it away to start with new keys"),
              std::string::npos)
        << error;
    EXPECT_EQ(error.find(good.substr(0, 20)), std::string::npos) << "key material in a message";
    EXPECT_EQ(read(path()), text);
    EXPECT_EQ(dry_run(config()), error);
  }
}

TEST_P(DiskKeys, PlacesThatCannotHoldKeysAreNamed) {
  EXPECT_TRUE(open(R"({"keys_path":")" + directory + R"(/no/such/keys.json"})")
                  .starts_with("FailedPrecondition: keymanager(disk): key directory " + directory +
                               "/no/such cannot be created: "));
  write(directory + "/file", "x");
  EXPECT_TRUE(
      open(R"({"directory":")" + directory + R"(/file"})")
          .starts_with("FailedPrecondition: keymanager(disk): key directory " + directory + "/file is not usable: "));
}

// A disk that takes no more bytes, played by the limit on a file's size.
TEST_P(DiskKeys, AFullDiskRefusesNewKeysAndKeepsTheOldOnes) {
  ASSERT_EQ(open(config()), "ok");
  const auto old_key = generate("old");
  ASSERT_EQ(outcome(old_key), "ok");
  const std::string before = read(path());
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit was = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &was), 0);
  const rlimit tiny = {5, was.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tiny), 0);
  const auto refused = generate("new");
  const auto replaced = generate("old");
  const auto removed = wait<void>([&](Done<void> done) { keys->remove("old", std::move(done)); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &was), 0);
  for (const std::string& error : {outcome(refused), outcome(replaced), outcome(removed)}) {
    EXPECT_TRUE(error.starts_with("Unavailable: keymanager(disk): key file " + path() +
                                  " cannot be saved, the keys on disk are as before: "))
        << error;
  }
  EXPECT_EQ(read(path()), before);
  ASSERT_EQ(list().size(), 1u);
  EXPECT_EQ(outcome(sign(*old_key)), "ok") << "the key in memory is the one on disk";
  EXPECT_EQ(outcome(generate("new")), "ok") << "and there is room again";
}

TEST_P(DiskKeys, ADirectoryThatBecomesUnwritableRefusesNewKeys) {
  ASSERT_EQ(open(config()), "ok");
  const bool root = ::geteuid() == 0;  // root writes everywhere: be nobody meanwhile
  ASSERT_EQ(root ? ::seteuid(65'534) : ::chmod(directory.c_str(), 0500), 0);
  const auto refused = generate("k");
  ASSERT_EQ(root ? ::seteuid(0) : 0, 0);
  ::chmod(directory.c_str(), 0700);
  EXPECT_EQ(outcome(refused), "Unavailable: keymanager(disk): key file " + path() +
                                  " cannot be saved, the keys on disk are as before: " + path() +
                                  ".new: Permission denied");
  EXPECT_TRUE(list().empty());
}

TEST_P(DiskKeys, ADirectoryThatVanishesRefusesNewKeys) {
  ASSERT_EQ(open(R"({"directory":")" + directory + "/sub\"}"), "ok");
  std::filesystem::remove_all(directory + "/sub");
  const auto refused = generate("k");
  EXPECT_EQ(refused.error().code, Code::unavailable);
  EXPECT_TRUE(list().empty());
}

TEST_P(DiskKeys, ALeftoverOfAPowerCutIsReplaced) {
  write(path() + ".new", "half a fi");
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(outcome(generate("k")), "ok");
  ASSERT_EQ(open(config()), "ok");
  EXPECT_EQ(list().size(), 1u);
}

TEST_P(DiskKeys, TwoInstancesCannotShareAFileButADryRunMayLook) {
  ASSERT_EQ(open(config()), "ok");
  auto other = create("key_manager_disk", LIMPET_KEY_MANAGER, kKeyManagerPrefix);
  EXPECT_EQ(outcome(configure(*other, config())), "FailedPrecondition: keymanager(disk): key file " + path() +
                                                      " is in use by another key manager; give each its own file");
  other->close();
  EXPECT_EQ(dry_run(config()), "ok");
  EXPECT_EQ(outcome(generate("k")), "ok");
}

TEST_P(DiskKeys, ADryRunCreatesNothing) {
  EXPECT_EQ(dry_run(R"({"directory":")" + directory + "/absent\"}"), "ok");
  EXPECT_FALSE(std::filesystem::exists(directory + "/absent"));
}

TEST_P(DiskKeys, ARemovedKeyStaysRemovedAfterARestart) {
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(outcome(generate("a")), "ok");
  ASSERT_EQ(outcome(generate("b")), "ok");
  ASSERT_EQ(outcome(wait<void>([&](Done<void> done) { keys->remove("a", std::move(done)); })), "ok");
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(list().size(), 1u);
  EXPECT_EQ(list()[0].id, "b");
}

BOTH_CARRIERS(DiskKeys);

// ---- sealed by the host's sealer ----
class SealedKeys : public DiskKeys {
 protected:
  SealedKeys() { services.sealer = &sealer; }
  std::string sealed() { return R"({"sealed":true,"keys_path":")" + path() + "\"}"; }
  Result<Keys> try_list() {
    return wait<Keys>([&](Done<Keys> done) { keys->list(std::move(done)); });
  }
  OpenSealer sealer{loop};
};

TEST_P(SealedKeys, KeysSurviveARestartAndDoNotLieInTheClear) {
  ASSERT_EQ(open(sealed()), "ok");
  const auto made = generate("k");
  ASSERT_EQ(outcome(made), "ok");
  EXPECT_TRUE(read(path()).starts_with(R"({"sealed_key":")")) << read(path());
  EXPECT_EQ(read(path()).find("keys\":{"), std::string::npos);
  ASSERT_EQ(open(sealed()), "ok");
  ASSERT_EQ(list().size(), 1u);
  EXPECT_EQ(list()[0].key, made->key);
  EXPECT_EQ(outcome(sign(*made)), "ok");
  ASSERT_EQ(outcome(generate("l", KeyType::rsa_2048)), "ok");
  ASSERT_EQ(outcome(wait<void>([&](Done<void> done) { keys->remove("k", std::move(done)); })), "ok");
  ASSERT_EQ(open(sealed()), "ok");
  ASSERT_EQ(list().size(), 1u);
  EXPECT_EQ(list()[0].id, "l");
}

TEST_P(SealedKeys, AFileInTheClearIsSealedWhenItIsFirstUsed) {
  ASSERT_EQ(open(config()), "ok");
  const auto made = generate("k");
  ASSERT_EQ(open(sealed()), "ok");
  EXPECT_EQ(list()[0].key, made->key);
  EXPECT_TRUE(read(path()).starts_with(R"({"sealed_key":")"));
  EXPECT_EQ(dry_run(sealed()), "ok");
}

TEST_P(SealedKeys, ASealerThatIsAwayIsAskedAgainWithTheNextCall) {
  ASSERT_EQ(open(sealed()), "ok");
  const auto made = generate("k");
  const std::string before = read(path());
  sealer.away = true;
  ASSERT_EQ(open(sealed()), "ok") << "it does not keep the role from starting";
  EXPECT_EQ(outcome(try_list()), "Unavailable: keymanager(disk): key file " + path() + ": no such device");
  EXPECT_EQ(sign(*made).error().code, Code::unavailable);
  EXPECT_EQ(generate("k").error().code, Code::unavailable);
  EXPECT_EQ(read(path()), before);
  sealer.away = false;
  EXPECT_EQ(outcome(sign(*made)), "ok");
}

TEST_P(SealedKeys, AnotherDeviceIsAnErrorThatLeavesTheFileAlone) {
  ASSERT_EQ(open(sealed()), "ok");
  ASSERT_EQ(outcome(generate("k")), "ok");
  const std::string before = read(path());
  sealer.device = "two";
  ASSERT_EQ(open(sealed()), "ok");
  EXPECT_EQ(
      outcome(try_list()),
      "FailedPrecondition: keymanager(disk): key file " + path() +
          ": another device; it was left untouched: bring back the device that sealed it, restore a backup, or move "
          "the file away to start with new keys");
  EXPECT_FALSE(generate("k"));
  EXPECT_EQ(read(path()), before);
  sealer.device = "one";
  EXPECT_EQ(list().size(), 1u);
}

TEST_P(SealedKeys, AChangedFileIsDamaged) {
  ASSERT_EQ(open(sealed()), "ok");
  ASSERT_EQ(outcome(generate("k")), "ok");
  std::string text = read(path());
  const size_t at = text.rfind("\"") - 8;
  text[at] = text[at] == 'A' ? 'B' : 'A';
  write(path(), text);
  ASSERT_EQ(open(sealed()), "ok");
  EXPECT_TRUE(outcome(try_list()).find("is damaged (sealed blob cannot be opened") != std::string::npos)
      << outcome(try_list());
  EXPECT_EQ(read(path()), text);
}

TEST_P(SealedKeys, WithoutASealerItSaysWhatIsMissing) {
  ASSERT_EQ(open(sealed()), "ok");
  ASSERT_EQ(outcome(generate("k")), "ok");
  const std::string wanted = "FailedPrecondition: keymanager(disk): key file " + path() +
                             " is sealed: set sealed = true, and configure the sealer that sealed it";
  keys.reset();
  EXPECT_EQ(open(config()), wanted);
  keys.reset();
  EXPECT_EQ(dry_run(config()), wanted);
  services.sealer = nullptr;
  EXPECT_EQ(open(sealed()),
            "InvalidArgument: keymanager(disk): sealed = true needs a [[plugin]] with type = \"Sealer\"");
}

BOTH_CARRIERS(SealedKeys);

}  // namespace
}  // namespace limpet
