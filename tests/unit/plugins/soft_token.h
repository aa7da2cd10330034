// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: tokens of SoftHSM in a folder of their own, for the life of the test program (a module is initialized once
// in a process), and the module in trouble_module.c before it. Without SoftHSM the tests are skipped.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "carriers.h"
#include "plugin/key_manager_facade.h"
#include "plugin/sealer_facade.h"

namespace limpet::test {

inline const char* const kSoftHsm = "/usr/lib/softhsm/libsofthsm2.so";
inline const char* const kTroubled = LIMPET_PLUGINS "/key_manager_pkcs11/pkcs11_trouble.so";

class SoftTokens {
 public:
  static SoftTokens& get() {
    static SoftTokens tokens;
    return tokens;
  }
  [[nodiscard]] bool there() const { return there_; }
  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
  [[nodiscard]] std::string pin_file() const { return path("pin"); }
  void remove() const { std::filesystem::remove_all(folder_); }
  // What the module in between does from now on.
  void trouble(const std::string& text) const {
    std::ofstream(path("trouble.new")) << text;
    std::filesystem::rename(path("trouble.new"), path("trouble"));
  }
  [[nodiscard]] size_t calls(const std::string& name) const {
    std::ifstream log(path("log"));
    size_t count = 0;
    for (std::string line; std::getline(log, line);) count += line == name;
    return count;
  }

 private:
  SoftTokens() {
    EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
    std::filesystem::create_directory(path("tokens"));
    std::ofstream(path("conf")) << "directories.tokendir = " << path("tokens") << "\nlog.level = ERROR\n";
    std::ofstream(pin_file()) << "1234\n";
    std::filesystem::permissions(pin_file(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    ::setenv("SOFTHSM2_CONF", path("conf").c_str(), 1);
    ::setenv("TROUBLE_MODULE", kSoftHsm, 1);
    ::setenv("TROUBLE_FILE", path("trouble").c_str(), 1);
    ::setenv("TROUBLE_LOG", path("log").c_str(), 1);
    there_ = std::filesystem::exists(kSoftHsm);
    for (const char* label : {"one", "two", "twin", "twin"}) there_ = there_ && make_token(label);
  }
  ~SoftTokens() { remove(); }
  static bool make_token(const std::string& label) {
    const std::string command =
        "softhsm2-util --init-token --free --label " + label + " --pin 1234 --so-pin 5678 >/dev/null 2>&1";
    return std::system(command.c_str()) == 0;  // NOLINT: a constant command of a test
  }

  std::string folder_ = ::testing::TempDir() + "limpet_softhsm_XXXXXX";
  bool there_ = false;
};

class SoftToken : public ShippedPlugin {
 protected:
  void SetUp() override {
    if (!tokens.there()) GTEST_SKIP() << "softhsm2 is not installed";
    tokens.trouble("");
  }
  void TearDown() override { tokens.trouble(""); }

  // A namespace of each test's own.
  static std::string own() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name = info->name();
    return name.substr(0, std::min<size_t>(name.find('/'), 60));
  }
  std::string config(const std::string& token = "one", const std::string& name_space = own(),
                     const std::string& module = kSoftHsm) {
    return R"({"module":")" + module + R"(","token":")" + token + R"(","pin_file":")" + tokens.pin_file() +
           R"(","namespace":")" + name_space + "\"}";
  }
  std::string troubled() { return config("one", own(), kTroubled); }

  std::string open(const std::string& json) {
    keys.reset();
    auto instance = create("key_manager_pkcs11", LIMPET_KEY_MANAGER, kKeyManagerPrefix);
    const std::string result = outcome(configure(*instance, json));
    raw = instance;
    keys = make_key_manager(instance);
    return result;
  }
  std::string open_sealer(const std::string& json) {
    sealer.reset();
    sealer_raw.reset();
    auto instance = create("key_manager_pkcs11", LIMPET_SEALER, kSealerPrefix);
    const std::string result = outcome(configure(*instance, json));
    sealer_raw = instance;
    sealer = make_sealer(instance);
    return result;
  }

  Result<ManagedKey> generate(const std::string& id, KeyType type = KeyType::ec_p256) {
    return wait<ManagedKey>([&](Done<ManagedKey> done) { keys->generate(id, type, std::move(done)); });
  }
  Result<std::vector<ManagedKey>> try_list() {
    return wait<std::vector<ManagedKey>>([&](Done<std::vector<ManagedKey>> done) { keys->list(std::move(done)); });
  }
  std::vector<ManagedKey> list() {
    auto got = try_list();
    EXPECT_TRUE(got) << got.error().text();
    return got ? std::move(*got) : std::vector<ManagedKey>();
  }
  std::string ids() {
    std::string out;
    for (const ManagedKey& key : list()) out += (out.empty() ? "" : " ") + key.id;
    return out;
  }
  Result<Bytes> sign(const ManagedKey& key, HashAlg alg = HashAlg::sha256) {
    return wait<Bytes>([&](Done<Bytes> done) { keys->sign(key, alg, hash(alg, as_bytes("data")), std::move(done)); });
  }
  std::string signs(const ManagedKey& key, HashAlg alg = HashAlg::sha256) {
    const auto signature = sign(key, alg);
    if (!signature) return signature.error().text();
    return outcome(key.key.verify(alg, hash(alg, as_bytes("data")), *signature));
  }
  Result<Bytes> seal(std::string_view secret = "secret", std::string_view context = {}) {
    return wait<Bytes>(
        [&](Done<Bytes> done) { sealer->seal(SecretBytes(as_bytes(secret)), to_bytes(context), std::move(done)); });
  }
  Result<void> remove(const std::string& id) {
    return wait<void>([&](Done<void> done) { keys->remove(id, std::move(done)); });
  }

  SoftTokens& tokens = SoftTokens::get();
  std::shared_ptr<Instance> raw;
  std::unique_ptr<KeyManager> keys;
  std::shared_ptr<Instance> sealer_raw;
  std::unique_ptr<Sealer> sealer;
};

}  // namespace limpet::test
