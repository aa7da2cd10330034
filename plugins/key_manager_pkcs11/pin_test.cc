// SPDX-License-Identifier: Apache-2.0
// Where the PIN comes from, and that one which a token refused is not shown to it again.
#include <fcntl.h>
#include <sys/stat.h>

#include "plugin/private_state.h"
#include "soft_token.h"

namespace limpet {
namespace {

using namespace test;

class Pkcs11Pin : public SoftToken {};

TEST_P(Pkcs11Pin, ThePinComesFromAFileForItsOwnerOrFromTheEnvironment) {
  const std::string begin = "InvalidArgument: keymanager(pkcs11): the PIN in ";
  const auto with = [&](const std::string& key, const std::string& value) {
    return R"({"module":")" + std::string(kSoftHsm) + R"(","token":"one","namespace":"n",")" + key + R"(":")" + value +
           "\"}";
  };
  EXPECT_EQ(open(with("pin_file", "/nowhere/pin")), begin + "/nowhere/pin: no such file or directory");
  const std::string file = directory + "/pin";
  write(file, "1234\r\n");
  ::chmod(file.c_str(), 0644);
  EXPECT_EQ(open(with("pin_file", file)), begin + file + ": every user may read or write it; run chmod o-rw on it");
  ::chmod(file.c_str(), 0600);
  EXPECT_EQ(open(with("pin_file", file)), "ok");
  EXPECT_TRUE(try_list());
  for (const std::string& bad : {std::string(), std::string("\n"), std::string(300, '1')}) {
    write(file, bad);
    EXPECT_EQ(open(with("pin_file", file)), begin + file + ": it must have 1 to 255 bytes");
  }
  ::unsetenv("LIMPET_TEST_PIN");
  EXPECT_EQ(open(with("pin_env", "LIMPET_TEST_PIN")),
            begin +
                "LIMPET_TEST_PIN: there is no such environment variable; by path a plugin runs "
                "without yours, unless it has isolation = \"in-process\"");
  ::setenv("LIMPET_TEST_PIN", "1234", 1);
  EXPECT_EQ(open(with("pin_env", "LIMPET_TEST_PIN")), "ok");
  EXPECT_TRUE(try_list());
}

TEST_P(Pkcs11Pin, AWrongPinIsShownOnceAndNoMore) {
  const std::string file = directory + "/pin";
  const auto put = [&](const char* pin) {
    write(file, pin);
    ::chmod(file.c_str(), 0600);
  };
  put("not-the-pin");
  const std::string json = R"({"module":")" + std::string(kTroubled) + R"(","token":"pkcs11:token=two","pin_file":")" +
                           file + R"(","namespace":"n"})";
  const size_t before = tokens.calls("C_Login");
  ASSERT_EQ(open(json), "ok");
  EXPECT_EQ(outcome(try_list()),
            "PermissionDenied: keymanager(pkcs11): token \"two\": C_Login: CKR_PIN_INCORRECT: the PIN in " + file +
                " was refused");
  for (int i = 0; i < 5; ++i) {
    const std::string again = outcome(try_list());
    EXPECT_NE(again.find("was refused and is not tried again, lest the token is locked; mend it there"),
              std::string::npos)
        << again;
    EXPECT_EQ(again.find("not-the-pin"), std::string::npos);
  }
  ASSERT_EQ(open(json), "ok");
  EXPECT_FALSE(try_list());
  EXPECT_EQ(tokens.calls("C_Login"), before + 1) << "nor by another instance";
  put("1234");
  EXPECT_EQ(outcome(try_list()), "ok");
  EXPECT_EQ(tokens.calls("C_Login"), before + 2);
}

// Key manager and sealer of one role, which come to the token at once when it starts.
class Pkcs11TwoLogins : public Pkcs11Pin {
 protected:
  std::string with_pin(const std::string& name, const std::string& pin) {
    const std::string file = directory + "/" + name;
    write(file, pin);
    ::chmod(file.c_str(), 0600);
    return R"({"module":")" + std::string(kTroubled) + R"(","token":"pkcs11:token=two","pin_file":")" + file +
           R"(","namespace":"n"})";
  }
  // One of them is at its login, the other behind it, or about to come there.
  void come_at_once(const std::string& keys_json, const std::string& sealer_json) {
    ASSERT_EQ(open(keys_json), "ok");
    ASSERT_EQ(open_sealer(sealer_json), "ok");
    tokens.trouble("hold_login\n");
    sealer->seal(SecretBytes(as_bytes("secret")), {}, sealing.arm());
    keys->list(listing.arm());
    for (int i = 0; i < 20'000 && logins() == 0; ++i) pause(1);
    pause(200);
  }
  void pause(int ms) {
    loop.run_ready();
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  }
  [[nodiscard]] size_t logins() const { return tokens.calls("C_Login") - before_; }

  Waiter<Bytes> sealing;
  Waiter<std::vector<ManagedKey>> listing;

 private:
  const size_t before_ = tokens.calls("C_Login");
};

TEST_P(Pkcs11TwoLogins, ShowAWrongPinOnce) {
  const std::string json = with_pin("pin", "not-the-pin");
  come_at_once(json, json);
  tokens.trouble("");
  for (const std::string& said : {outcome(finish(listing)), outcome(finish(sealing))})
    EXPECT_NE(said.find("the PIN in " + directory + "/pin was refused"), std::string::npos) << said;
  EXPECT_EQ(logins(), 1u);
}

TEST_P(Pkcs11TwoLogins, DoNotUseUpTheLastTry) {
  come_at_once(with_pin("first", "not-the-pin"), with_pin("second", "nor-this-one"));
  tokens.trouble("final_try\n");
  const std::string both = outcome(finish(listing)) + outcome(finish(sealing));
  EXPECT_NE(both.find("was refused"), std::string::npos) << both;
  EXPECT_NE(both.find("one more wrong PIN locks the token, so none is tried"), std::string::npos) << both;
  EXPECT_EQ(logins(), 1u);
}

TEST_P(Pkcs11TwoLogins, EachRememberTheirRefusedPin) {
  ASSERT_EQ(open(with_pin("first", "not-the-pin")), "ok");
  ASSERT_EQ(open_sealer(with_pin("second", "nor-this-one")), "ok");
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(try_list());
    EXPECT_FALSE(seal());
  }
  EXPECT_EQ(logins(), 2u);
}

TEST_P(Pkcs11TwoLogins, KnowEachOtherByWhateverPathTheyNameTheModule) {
  const std::string other = directory + "/other.so";
  ASSERT_EQ(::symlink(kTroubled, other.c_str()), 0);
  const std::string json = with_pin("pin", "not-the-pin");
  std::string by_other = json;
  by_other.replace(by_other.find(kTroubled), std::string_view(kTroubled).size(), other);
  ASSERT_EQ(open(json), "ok");
  ASSERT_EQ(open_sealer(by_other), "ok");
  EXPECT_FALSE(try_list());
  EXPECT_FALSE(seal());
  EXPECT_EQ(logins(), 1u);
}

// A role's state on disk, as far as this plugin goes.
class KeptState final : public PrivateState {
 public:
  explicit KeptState(Loop& loop) : loop_(loop) {}
  void get(const std::string&, std::string key, Done<Bytes> done) override {
    const auto place = kept.find(key);
    if (get_says != Code::ok) return answer(std::move(done), fail(get_says, "the disk is broken"));
    answer(std::move(done), place == kept.end() ? fail(Code::not_found, "no such key") : Result<Bytes>(place->second));
  }
  void put(const std::string&, std::string key, Bytes value, Done<Bytes> done) override {
    if (put_says != Code::ok) return answer(std::move(done), fail(put_says, "the disk is full"));
    if (changes_left-- > 0) kept[key] = std::move(value);
    answer(std::move(done), Bytes());
  }
  void remove(const std::string&, std::string key, Done<Bytes> done) override {
    if (changes_left-- > 0) kept.erase(key);
    answer(std::move(done), Bytes());
  }
  std::map<std::string, Bytes> kept;
  Code get_says = Code::ok;
  Code put_says = Code::ok;
  int changes_left = 1'000;  // what comes then is lost, as if the power had failed before

 private:
  void answer(Done<Bytes> done, Result<Bytes> result) {
    loop_.post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
  }
  Loop& loop_;
};

// A plugin with such a state and a PIN file. A process knows what it knows of each module that it mapped: a copy
// of one is new to it, as after a restart.
class Pkcs11RefusedPin : public Pkcs11Pin {
 protected:
  void SetUp() override {
    Pkcs11Pin::SetUp();
    services.state = &state;
    put("not-the-pin");
  }
  void TearDown() override {
    keys.reset();
    Pkcs11Pin::TearDown();
  }
  void put(const char* pin) {
    write(file, pin);
    ::chmod(file.c_str(), 0600);
  }
  std::string started(const std::string& name) {
    const std::string module = directory + "/" + name + ".so";
    EXPECT_TRUE(std::filesystem::copy_file(kTroubled, module));
    EXPECT_EQ(open(R"({"module":")" + module + R"(","token":"pkcs11:token=two","pin_file":")" + file +
                   R"(","namespace":"n"})"),
              "ok");
    return outcome(try_list());
  }
  [[nodiscard]] size_t logins() const { return tokens.calls("C_Login") - before_; }

  KeptState state{loop};
  const std::string file = directory + "/pin";
  const std::string refused = "CKR_PIN_INCORRECT: the PIN in " + file + " was refused";

 private:
  const size_t before_ = tokens.calls("C_Login");
};

TEST_P(Pkcs11RefusedPin, IsNotShownAgainByAProcessThatIsStartedAnew) {
  EXPECT_TRUE(started("first").ends_with(refused));
  ASSERT_EQ(state.kept.size(), 1u);
  EXPECT_EQ(as_text(state.kept.begin()->second).find("not-the-pin"), std::string_view::npos);
  EXPECT_NE(started("second").find("was refused and is not tried again"), std::string::npos);
  EXPECT_EQ(logins(), 1u);
  put("1234");
  EXPECT_EQ(outcome(try_list()), "ok");
  EXPECT_EQ(state.kept.size(), 0u) << "nothing is left of one that was right";
  EXPECT_EQ(started("third"), "ok");
}

TEST_P(Pkcs11RefusedPin, NorWhileNobodyCanSayWhetherItWasRefused) {
  const size_t sessions = tokens.calls("C_OpenSession");
  EXPECT_TRUE(started("first").ends_with(refused));
  for (const Code code : {Code::unavailable, Code::data_loss, Code::internal}) {
    state.get_says = code;
    EXPECT_EQ(
        started("with " + code_name(code)),
        "Unavailable: keymanager(pkcs11): token \"two\": whether this PIN was refused before cannot be looked up, "
        "so it is not shown: the disk is broken");
  }
  EXPECT_EQ(logins(), 1u);
  EXPECT_EQ(tokens.calls("C_OpenSession"), sessions + 4) << "it is not the token that is away";
  state.get_says = Code::ok;
  put("1234");
  EXPECT_EQ(outcome(try_list()), "ok");
}

TEST_P(Pkcs11RefusedPin, NorWhileItCannotBeNoted) {
  const size_t sessions = tokens.calls("C_OpenSession");
  state.put_says = Code::resource_exhausted;
  EXPECT_EQ(started("first"),
            "Unavailable: keymanager(pkcs11): token \"two\": that this PIN is tried cannot be noted, so it is not "
            "shown: the disk is full");
  EXPECT_EQ(logins(), 0u);
  EXPECT_EQ(tokens.calls("C_OpenSession"), sessions + 1);
  state.put_says = Code::ok;
  put("1234");
  EXPECT_EQ(outcome(try_list()), "ok");
}

TEST_P(Pkcs11RefusedPin, IsTriedOnceMoreWhereTheTokensAnswerWasLost) {
  for (const char* time : {"first", "second"}) {
    state.changes_left = 1;  // that it is being tried
    EXPECT_TRUE(started(time).ends_with(refused)) << time;
  }
  EXPECT_EQ(logins(), 2u);
  state.changes_left = 1'000;
  EXPECT_EQ(started("third"),
            "PermissionDenied: keymanager(pkcs11): token \"two\": the PIN in " + file +
                " was tried twice and what the token said was never noted, so it is not tried again, lest the token is "
                "locked; mend it there, or touch the file to have it tried once more");
  EXPECT_EQ(logins(), 2u);
  put("1234");
  state.changes_left = 1;
  EXPECT_EQ(outcome(try_list()), "ok");
  state.changes_left = 1'000;
  EXPECT_EQ(started("fourth"), "ok") << "one that is right, after a power cut";
  EXPECT_EQ(state.kept.size(), 0u);
  EXPECT_EQ(logins(), 4u);
}

TEST_P(Pkcs11RefusedPin, IsNotWhatATokenSaysThatWasAwayOrLocked) {
  put("1234");
  for (const char* said : {"0x30", "0xa4", "0x80000001"}) {
    tokens.trouble("C_Login " + std::string(said) + "\n");
    EXPECT_NE(started(said), "ok");
    EXPECT_EQ(state.kept.size(), 0u) << said;
  }
  tokens.trouble("");
  EXPECT_EQ(outcome(try_list()), "ok");
}

TEST_P(Pkcs11Pin, APinThatWasMistypedAtThePadIsNotAskedForAgain) {
  const std::string json =
      R"({"module":")" + std::string(kTroubled) + R"(","token":"pkcs11:token=two","namespace":"n"})";
  const size_t before = tokens.calls("C_Login");
  tokens.trouble("pin_pad\nC_Login 0x50\n");  // nobody typed anything
  ASSERT_EQ(open(json), "ok");
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(try_list());
  EXPECT_EQ(tokens.calls("C_Login"), before + 2);
  tokens.trouble("pin_pad\nC_Login 0xa0\n");
  for (int i = 0; i < 3; ++i) {
    const std::string refused = outcome(try_list());
    EXPECT_TRUE(refused.starts_with("PermissionDenied: ")) << refused;
    EXPECT_TRUE(refused.ends_with("was refused; restart to be asked for it again")) << refused;
  }
  EXPECT_EQ(tokens.calls("C_Login"), before + 3);
}

TEST_P(Pkcs11Pin, APinThatWasRightAllAlongIsTriedAgainAfterTheTokenWasRepaired) {
  const std::string file = directory + "/pin";
  write(file, "1234");
  ::chmod(file.c_str(), 0600);
  const std::string json = R"({"module":")" + std::string(kTroubled) + R"(","token":"pkcs11:token=two","pin_file":")" +
                           file + R"(","namespace":"n"})";
  // locked, expired, not initialized: says nothing of this PIN
  for (const char* state : {"0xa4", "0xa3", "0x102"}) {
    tokens.trouble("C_Login " + std::string(state) + "\n");
    ASSERT_EQ(open(json), "ok");
    const std::string refused = outcome(try_list());
    EXPECT_TRUE(refused.starts_with("PermissionDenied: ")) << refused;
    EXPECT_TRUE(refused.ends_with(": have the token's security officer set its PIN")) << refused;
    tokens.trouble("");
    EXPECT_EQ(outcome(try_list()), "ok") << state;
  }
  // refused, until the file is written anew
  tokens.trouble("C_Login 0xa0\n");
  ASSERT_EQ(open(json), "ok");
  EXPECT_FALSE(try_list());
  tokens.trouble("");
  const size_t before = tokens.calls("C_Login");
  const std::string again = outcome(try_list());
  EXPECT_TRUE(again.ends_with("mend it there, or touch the file to have it tried once more")) << again;
  EXPECT_EQ(tokens.calls("C_Login"), before);
  const timespec times[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
  EXPECT_EQ(outcome(try_list()), "ok");
}

TEST_P(Pkcs11Pin, NoPinIsTriedWhenItMightBeTheLastTime) {
  tokens.trouble("final_try\n");
  const size_t before = tokens.calls("C_Login");
  ASSERT_EQ(open(config("two", own(), kTroubled)), "ok");
  EXPECT_EQ(
      outcome(try_list()),
      "PermissionDenied: keymanager(pkcs11): token \"two\": one more wrong PIN locks the token, so none is tried; log "
      "in to it once by hand with the right one");
  EXPECT_EQ(tokens.calls("C_Login"), before);
}

TEST_P(Pkcs11Pin, ATokenThatWantsAPinSaysSo) {
  ASSERT_EQ(open(R"({"module":")" + std::string(kSoftHsm) + R"(","token":"two","namespace":"n"})"), "ok");
  EXPECT_EQ(outcome(try_list()),
            "PermissionDenied: keymanager(pkcs11): token \"two\": it wants a PIN; set pin_file or pin_env");
}

INSTANTIATE_TEST_SUITE_P(Loaded, Pkcs11Pin, ::testing::Values(Carrier::shared_object), carrier_name);
INSTANTIATE_TEST_SUITE_P(Loaded, Pkcs11TwoLogins, ::testing::Values(Carrier::shared_object), carrier_name);
INSTANTIATE_TEST_SUITE_P(Loaded, Pkcs11RefusedPin, ::testing::Values(Carrier::shared_object), carrier_name);

}  // namespace
}  // namespace limpet
