// SPDX-License-Identifier: Apache-2.0
// The key manager "pkcs11" with tokens of SoftHSM, and with a module before them that fails on demand.
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <sys/stat.h>

#include "crypto/pss.h"
#include "soft_token.h"

namespace limpet {
namespace {

using namespace test;

class Pkcs11Keys : public SoftToken {};

TEST_P(Pkcs11Keys, RefusesAConfigurationAndSaysWhatIsWrong) {
  const std::string begin = "InvalidArgument: keymanager(pkcs11): ";
  const std::string pin = tokens.pin_file();
  const auto json = [&](const std::string& module, const std::string& token, const std::string& more) {
    return R"({"module":")" + module + R"(","token":")" + token + "\"" + more + "}";
  };
  const std::string rest = R"(,"pin_file":")" + pin + R"(","namespace":"n")";
  EXPECT_EQ(open("{}"), begin + "token: set the token's label, of 1 to 32 bytes, or a pkcs11: URI");
  EXPECT_EQ(open(json("", "one", rest)), begin + "set module, the path of the PKCS#11 module");
  EXPECT_EQ(open(json("x.so", "one", rest)), begin + "PKCS#11 module x.so must be named by its whole path");
  EXPECT_EQ(open(json("/nowhere/x.so", "one", rest)),
            begin +
                "PKCS#11 module /nowhere/x.so cannot be opened: no such file or directory; install it, or mend the key "
                "\"module\"");
  write(directory + "/text.so", "no module");
  EXPECT_TRUE(open(json(directory + "/text.so", "one", rest))
                  .starts_with(begin + "PKCS#11 module " + directory + "/text.so cannot be loaded: "));
  EXPECT_EQ(open(json(LIMPET_PLUGINS "/key_manager_pkcs11.so", "one", rest)),
            begin + "PKCS#11 module " LIMPET_PLUGINS
                    "/key_manager_pkcs11.so is no PKCS#11 module: it does not export C_GetFunctionList");
  ::chmod((directory + "/text.so").c_str(), 0666);
  EXPECT_TRUE(open(json(directory + "/text.so", "one", rest)).find("may be written by every user") !=
              std::string::npos);
  for (const char* bad : {"", "a b", "a:b", "\xc3\xa9"}) {
    EXPECT_TRUE(open(json(kSoftHsm, "one", R"(,"namespace":")" + std::string(bad) + "\""))
                    .starts_with(begin + "namespace must have"))
        << bad;
  }
  EXPECT_EQ(open(json(kSoftHsm, "one", rest + R"(,"pin_env":"P")")), begin + "set pin_file or pin_env, not both");
  EXPECT_EQ(open(json(kSoftHsm, "pkcs11:token=one?pin-source=/x", rest)),
            begin + "pin_file is set, and the token's URI has one too");
  EXPECT_EQ(open(json(kSoftHsm, "one", R"(,"namespace":"n","pin":"1234")")),
            begin + "unknown key \"pin\"; known: module, namespace, pin_env, pin_file, token");
}

TEST_P(Pkcs11Keys, ADryRunAsksNoToken) {
  auto instance = create("key_manager_pkcs11", LIMPET_KEY_MANAGER, kKeyManagerPrefix);
  EXPECT_EQ(outcome(configure(*instance, config("no such token"), true)), "ok");
  instance->close();
}

TEST_P(Pkcs11Keys, EveryTypeOfKeySigns) {
  ASSERT_EQ(open(config()), "ok");
  for (const KeyType type : {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048, KeyType::rsa_4096}) {
    const auto key = generate("k", type);
    ASSERT_TRUE(key) << key.error().text();
    EXPECT_EQ(key->type, type);
    for (const HashAlg alg : {HashAlg::sha256, HashAlg::sha384, HashAlg::sha512})
      EXPECT_EQ(signs(*key, alg), "ok") << key_type_name(type) << " " << static_cast<int>(alg);
  }
  EXPECT_EQ(outcome(generate("k", static_cast<KeyType>(9))),
            "InvalidArgument: keymanager(pkcs11): key type 9 is not known");
  EXPECT_EQ(outcome(generate("")), "InvalidArgument: keymanager(pkcs11): a key id has 1 to 255 bytes of UTF-8");
}

// ---- the table itself, for what the facade never asks ----
void on_signed(limpet_op* op, const limpet_status* err, limpet_bytes signature, limpet_str) {
  answer_op<Bytes>(op, err, [&]() -> Result<Bytes> { return Bytes(signature.ptr, signature.ptr + signature.len); });
}

TEST_P(Pkcs11Keys, RsaSignsWithPssAndChecksTheRequest) {
  ASSERT_EQ(open(config()), "ok");
  const auto rsa = generate("rsa", KeyType::rsa_2048);
  ASSERT_TRUE(rsa);
  ASSERT_TRUE(generate("ec"));
  const auto ask = [&](const std::string& id, uint32_t hash_number, size_t digest_bytes, int32_t salt) {
    return wait<Bytes>([&](Done<Bytes> done) {
      raw->run<Bytes>(
          [this, id, hash_number, digest_bytes, salt](limpet_instance* self, limpet_op* op) {
            const Bytes digest(digest_bytes, 7);
            const limpet_sign_request request = {
                sizeof request, hash_number, {id.data(), id.size()}, {digest.data(), digest.size()}, salt, 0, {}};
            raw->table<limpet_key_manager>()->sign(self, op, &request, &on_signed);
          },
          10'000, std::move(done));
    });
  };
  const auto pss = ask("rsa", 5, 32, 32);
  ASSERT_TRUE(pss) << pss.error().text();
  EXPECT_EQ(outcome(verify_pss(rsa->key, Bytes(32, 7), *pss)), "ok");
  EXPECT_EQ(outcome(verify_pss(rsa->key, Bytes(48, 7), *ask("rsa", 6, 48, 48), HashAlg::sha384)), "ok");
  const std::string begin = "InvalidArgument: keymanager(pkcs11): ";
  EXPECT_EQ(outcome(ask("ec", 5, 32, 32)), begin + "token \"one\": PSS is for RSA keys; this one is not");
  EXPECT_EQ(outcome(ask("rsa", 5, 32, 513)), begin + "a PSS salt of more than 512 bytes");
  EXPECT_EQ(outcome(ask("rsa", 5, 31, -1)), begin + "the digest has 31 bytes, its hash makes 32");
  EXPECT_EQ(outcome(ask("rsa", 0, 32, -1)), "Unimplemented: keymanager(pkcs11): hash 0 is not supported");
  EXPECT_EQ(outcome(ask("none", 5, 32, -1)), "NotFound: keymanager(pkcs11): token \"one\": no such key \"none\"");
}

TEST_P(Pkcs11Keys, KeysSurviveARestartAndStillSign) {
  ASSERT_EQ(open(config()), "ok");
  const auto made = generate("x509-CA-A");
  ASSERT_TRUE(made) << made.error().text();
  ASSERT_TRUE(generate("rsa \"quoted\" \u20ac", KeyType::rsa_2048));
  ASSERT_EQ(open(config()), "ok");
  const auto kept = list();
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept[0].id, "rsa \"quoted\" \u20ac");
  EXPECT_EQ(kept[0].type, KeyType::rsa_2048);
  EXPECT_EQ(kept[1].id, "x509-CA-A");
  EXPECT_EQ(kept[1].fingerprint, made->fingerprint);
  EXPECT_EQ(kept[1].key, made->key);
  EXPECT_EQ(signs(*made), "ok");
}

TEST_P(Pkcs11Keys, TwoNamespacesInOneTokenDoNotMix) {
  ASSERT_EQ(open(config("one", own() + "1")), "ok");
  const auto first = generate("k");
  ASSERT_EQ(open(config("one", own() + "11")), "ok");
  EXPECT_EQ(ids(), "");
  ASSERT_TRUE(generate("k"));
  EXPECT_EQ(outcome(remove("k")), "ok");
  ASSERT_EQ(open(config("one", own() + "1")), "ok");
  EXPECT_EQ(signs(*first), "ok");
}

TEST_P(Pkcs11Keys, AReplacedKeyHasANewFingerprintAndLeavesNothingBehind) {
  ASSERT_EQ(open(config()), "ok");
  const auto first = generate("k");
  const auto second = generate("k", KeyType::ec_p384);
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->fingerprint, second->fingerprint);
  EXPECT_EQ(ids(), "k");
  EXPECT_EQ(list()[0].fingerprint, second->fingerprint);
  EXPECT_EQ(sign(*first).error().code, Code::failed_precondition);
  EXPECT_EQ(signs(*second), "ok");
}

TEST_P(Pkcs11Keys, AKeyThatAnotherReplacedIsNoticed) {
  ASSERT_EQ(open(config()), "ok");
  const auto first = generate("k");
  EXPECT_EQ(signs(*first), "ok");
  auto other = std::move(keys);
  ASSERT_EQ(open(config()), "ok");
  const auto second = generate("k");
  keys.swap(other);
  EXPECT_EQ(sign(*first).error().code, Code::failed_precondition);
  EXPECT_EQ(signs(*second), "ok");
  keys.swap(other);
  ASSERT_TRUE(remove("k"));
  keys.swap(other);
  EXPECT_EQ(sign(*second).error().code, Code::not_found);
}

TEST_P(Pkcs11Keys, ARemovedKeyIsGone) {
  ASSERT_EQ(open(config()), "ok");
  const auto made = generate("k");
  ASSERT_TRUE(generate("l"));
  EXPECT_EQ(outcome(remove("k")), "ok");
  EXPECT_EQ(ids(), "l");
  EXPECT_EQ(outcome(sign(*made)), "NotFound: keymanager(pkcs11): token \"one\": no such key \"k\"");
  EXPECT_EQ(outcome(remove("k")), "NotFound: keymanager(pkcs11): token \"one\": no such key \"k\"");
  ASSERT_EQ(open(config()), "ok");
  EXPECT_EQ(ids(), "l");
}

TEST_P(Pkcs11Keys, WhenThePowerFailsInBetweenTheKeyThatWasHandedOutIsTheOne) {
  ASSERT_EQ(open(troubled()), "ok");
  const auto first = generate("k");
  ASSERT_TRUE(first) << first.error().text();
  tokens.trouble("C_DestroyObject 0x6\n");  // after the new pair was made, neither can be destroyed
  const auto failed = generate("k");
  ASSERT_FALSE(failed);
  tokens.trouble("");
  ASSERT_EQ(open(troubled()), "ok");
  ASSERT_EQ(list().size(), 1u);
  EXPECT_EQ(list()[0].fingerprint, first->fingerprint);
  EXPECT_EQ(signs(*first), "ok");
  const auto next = generate("k");
  ASSERT_TRUE(next) << next.error().text();
  ASSERT_EQ(open(troubled()), "ok");
  ASSERT_EQ(list().size(), 1u);
  EXPECT_EQ(list()[0].fingerprint, next->fingerprint);
}

TEST_P(Pkcs11Keys, AnOldKeyThatCannotBeDestroyedStaysInUse) {
  ASSERT_EQ(open(troubled()), "ok");
  const auto first = generate("k");
  ASSERT_TRUE(first);
  tokens.trouble("C_DestroyObject 0x1b\n");
  const auto failed = generate("k");
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message.find("destroy the old key k: C_DestroyObject"), std::string::npos)
      << failed.error().text();
  tokens.trouble("");
  EXPECT_EQ(list()[0].fingerprint, first->fingerprint);
}

size_t objects_in_tokens(const SoftTokens& tokens) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(tokens.path("tokens")))
    count += entry.path().extension() == ".object" ? 1 : 0;
  return count;
}

TEST_P(Pkcs11Keys, ANewKeyThatIsWithdrawnLeavesNoHalfBehind) {
  ASSERT_EQ(open(troubled()), "ok");
  const auto first = generate("k");
  ASSERT_TRUE(first);
  const size_t before = objects_in_tokens(tokens);
  ASSERT_GE(before, 2u);
  tokens.trouble("destroy_once 0x1b\n");
  EXPECT_FALSE(generate("k"));
  EXPECT_EQ(objects_in_tokens(tokens), before);
  tokens.trouble("");
  EXPECT_EQ(list()[0].fingerprint, first->fingerprint);
  EXPECT_EQ(signs(*first), "ok");
}

TEST_P(Pkcs11Keys, AnOldPublicKeyThatStaysCostsNobodyHisNewKey) {
  ASSERT_EQ(open(troubled()), "ok");
  ASSERT_TRUE(generate("k"));
  tokens.trouble("public_stays 0x1b\n");
  const auto second = generate("k");
  ASSERT_TRUE(second) << second.error().text();
  ASSERT_EQ(list().size(), 1u);
  EXPECT_EQ(list()[0].fingerprint, second->fingerprint);
  EXPECT_EQ(signs(*second), "ok");
  EXPECT_EQ(outcome(remove("k")), "ok");
  EXPECT_EQ(ids(), "");
}

TEST_P(Pkcs11Keys, ATokenIsNamedByLabelOrUri) {
  ASSERT_EQ(open(config("pkcs11:token=two;model=SoftHSM%20v2")), "ok");
  ASSERT_TRUE(generate("k"));
  ASSERT_EQ(open(config("two")), "ok");
  EXPECT_EQ(ids(), "k");
  ASSERT_EQ(open(config("one")), "ok");
  EXPECT_EQ(ids(), "");
  ASSERT_EQ(open(config("twin")), "ok");
  EXPECT_EQ(outcome(try_list()), "InvalidArgument: keymanager(pkcs11): token \"twin\": 2 tokens of " +
                                     std::string(kSoftHsm) + " match; name one by a pkcs11: URI with its serial");
  ASSERT_EQ(open(config("pkcs11:token=one;serial=ffff")), "ok");
  EXPECT_EQ(outcome(try_list()),
            "Unavailable: keymanager(pkcs11): token \"one\", serial \"ffff\": no such token in the "
            "slots of " +
                std::string(kSoftHsm));
}

// ---- trouble ----
TEST_P(Pkcs11Keys, ATokenThatGoesAndComesBackIsUsedAgain) {
  ASSERT_EQ(open(troubled()), "ok");
  const auto made = generate("k");
  ASSERT_TRUE(made) << made.error().text();
  for (int round = 0; round < 3; ++round) {
    tokens.trouble("gone\n");
    EXPECT_EQ(sign(*made).error().code, Code::unavailable) << round;
    EXPECT_EQ(try_list().error().code, Code::unavailable);
    EXPECT_EQ(generate("k").error().code, Code::unavailable);
    tokens.trouble("");
    EXPECT_EQ(signs(*made), "ok") << round;
    EXPECT_EQ(ids(), "k");
  }
}

TEST_P(Pkcs11Keys, ASessionThatIsLostIsReplacedWithoutAnError) {
  ASSERT_EQ(open(troubled()), "ok");
  const auto made = generate("k");
  ASSERT_TRUE(made);
  const auto* module = static_cast<CK_FUNCTION_LIST*>(nullptr);
  void* handle = ::dlopen(kSoftHsm, RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(handle, nullptr);
  const auto entry = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(handle, "C_GetFunctionList"));
  CK_FUNCTION_LIST* calls = nullptr;
  ASSERT_EQ(entry(&calls), CKR_OK);
  module = calls;
  CK_ULONG count = 16;
  CK_SLOT_ID slots[16];
  ASSERT_EQ(module->C_GetSlotList(CK_TRUE, slots, &count), CKR_OK);
  for (CK_ULONG i = 0; i < count; ++i) module->C_CloseAllSessions(slots[i]);
  EXPECT_EQ(signs(*made), "ok");
}

// In a process of its own: whoever calls C_Initialize first is the only one who may do so again.
TEST_P(Pkcs11Keys, AModuleThatSeesNoTokenComeBackIsInitializedAgain) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto scenario = [this] {
    std::string failed;
    const auto expect = [&failed](bool good, const char* what) {
      if (!good) failed += std::string(what) + "; ";
    };
    expect(open(troubled()) == "ok", "open");
    const auto made = generate("k");
    expect(made.has_value(), "generate");
    tokens.trouble("stuck\n");
    expect(sign(*made).error().code == Code::unavailable, "unavailable while it is gone");
    const size_t again = tokens.calls("C_Finalize");
    expect(again == 1, "initialized again at once");
    expect(sign(*made).error().code == Code::unavailable, "and still gone");
    expect(tokens.calls("C_Finalize") == again, "not twice within half a minute");
    keys.reset();
    raw.reset();
    tokens.remove();
    std::fprintf(stderr, "%s.", failed.c_str());
    ::_exit(failed.empty() ? 0 : 1);
  };
  EXPECT_EXIT(scenario(), ::testing::ExitedWithCode(0), "");
}

TEST_P(Pkcs11Keys, AModuleThatWasStuckWorksAfterItWasInitializedAgain) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto scenario = [this] {
    const bool opened = open(troubled()) == "ok";
    const auto made = generate("k");
    tokens.trouble("stuck_once\n");
    const std::string then = made ? signs(*made) : made.error().text();
    const size_t again = tokens.calls("C_Finalize");
    keys.reset();
    raw.reset();
    tokens.remove();
    std::fprintf(stderr, "%s, %zu times.", then.c_str(), again);
    ::_exit(opened && then == "ok" && again == 1 ? 0 : 1);
  };
  EXPECT_EXIT(scenario(), ::testing::ExitedWithCode(0), "");
}

TEST_P(Pkcs11Keys, AModuleThatAnotherInitializedIsLeftAlone) {
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(outcome(try_list()), "ok");  // SoftHSM itself is initialized now, and not by way of the module in between
  ASSERT_EQ(open(troubled()), "ok");
  const auto made = generate("k");
  ASSERT_TRUE(made) << made.error().text();
  tokens.trouble("gone\n");
  EXPECT_EQ(sign(*made).error().code, Code::unavailable);
  EXPECT_EQ(tokens.calls("C_Finalize"), 0u);
  tokens.trouble("");
  EXPECT_EQ(signs(*made), "ok");
}

TEST_P(Pkcs11Keys, WithoutAFreeSessionItSaysSoAndTriesAgain) {
  tokens.trouble("C_OpenSession 0xb1\n");
  ASSERT_EQ(open(troubled()), "ok");
  EXPECT_EQ(
      outcome(try_list()),
      "ResourceExhausted: keymanager(pkcs11): token \"one\": C_OpenSession: CKR_SESSION_COUNT: every session of the "
      "token is taken; close some, or give it more");
  tokens.trouble("");
  EXPECT_EQ(outcome(try_list()), "ok");
}

TEST_P(Pkcs11Keys, ErrorsNameTheCallAndWhatTheTokenSaid) {
  ASSERT_EQ(open(troubled()), "ok");
  const auto made = generate("k");
  const auto said = [&](const char* trouble) {
    tokens.trouble(trouble);
    const std::string text = outcome(sign(*made));
    tokens.trouble("");
    return text;
  };
  const std::string begin = "keymanager(pkcs11): token \"one\": ";
  EXPECT_EQ(said("C_SignInit 0x70\n"), "Unimplemented: " + begin + "C_SignInit: CKR_MECHANISM_INVALID");
  EXPECT_EQ(said("C_Sign 0x21\n"), "InvalidArgument: " + begin + "C_Sign: CKR_DATA_LEN_RANGE");
  EXPECT_EQ(said("C_Sign 0x80000001\n"), "Unavailable: " + begin + "C_Sign: CKR 0x80000001");
  tokens.trouble("C_GenerateKeyPair 0x31\n");
  EXPECT_EQ(outcome(generate("k")), "ResourceExhausted: " + begin + "generate k: C_GenerateKeyPair: CKR_DEVICE_MEMORY");
  tokens.trouble("");
  EXPECT_EQ(signs(*made), "ok") << "the old key is there still";
}

TEST_P(Pkcs11Keys, ManyInstancesComeAndGo) {
  for (int i = 0; i < 200; ++i) ASSERT_EQ(open(config()), "ok");
  ASSERT_TRUE(generate("k"));
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(open(config()), "ok");
    EXPECT_EQ(ids(), "k");
  }
}

INSTANTIATE_TEST_SUITE_P(Loaded, Pkcs11Keys, ::testing::Values(Carrier::shared_object), carrier_name);

}  // namespace
}  // namespace limpet
