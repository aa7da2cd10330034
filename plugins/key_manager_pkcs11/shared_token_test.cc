// SPDX-License-Identifier: Apache-2.0
// A token of SoftHSM in which others keep keys, too: an operator, and applications that number theirs as everybody
// does.
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>

#include "soft_token.h"

namespace limpet {
namespace {

using namespace test;

// Another application of this process with a session of its own in the token "one".
class Application {
 public:
  Application() {
    void* handle = ::dlopen(kSoftHsm, RTLD_NOW | RTLD_NOLOAD);
    if (handle == nullptr) return;
    const auto entry = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(handle, "C_GetFunctionList"));
    CK_ULONG count = 16;
    CK_SLOT_ID slots[16];
    EXPECT_EQ(entry(&calls_), CKR_OK);
    EXPECT_EQ(calls_->C_GetSlotList(CK_TRUE, slots, &count), CKR_OK);
    for (CK_ULONG i = 0; i < count; ++i) {
      CK_TOKEN_INFO info = {};
      EXPECT_EQ(calls_->C_GetTokenInfo(slots[i], &info), CKR_OK);
      if (std::string_view(reinterpret_cast<const char*>(info.label), 4) != "one ") continue;
      EXPECT_EQ(calls_->C_OpenSession(slots[i], CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &session_),
                CKR_OK);
    }
    EXPECT_NE(session_, 0u);
  }
  ~Application() { calls_->C_CloseSession(session_); }
  Application(const Application&) = delete;
  Application& operator=(const Application&) = delete;

  // A pair of RSA 2048, which no key on a curve signs for.
  void make_rsa_pair(std::string label, Bytes id) {
    CK_BBOOL yes = CK_TRUE;
    CK_ULONG bits = 2048;
    uint8_t exponent[] = {1, 0, 1};
    CK_ATTRIBUTE open[] = {{CKA_TOKEN, &yes, sizeof yes},
                           {CKA_MODULUS_BITS, &bits, sizeof bits},
                           {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent},
                           {CKA_LABEL, label.data(), label.size()},
                           {CKA_ID, id.data(), id.size()}};
    CK_ATTRIBUTE closed[] = {
        {CKA_TOKEN, &yes, sizeof yes}, {CKA_LABEL, label.data(), label.size()}, {CKA_ID, id.data(), id.size()}};
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_KEY_PAIR_GEN, nullptr, 0};
    CK_OBJECT_HANDLE made[2] = {};
    EXPECT_EQ(calls_->C_GenerateKeyPair(session_, &mechanism, open, 5, closed, 3, &made[0], &made[1]), CKR_OK);
  }
  // A pair on P-256 with these labels.
  void make_pair(std::string private_label, std::string public_label, Bytes id) {
    Bytes curve = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE open[] = {{CKA_TOKEN, &yes, sizeof yes},
                           {CKA_EC_PARAMS, curve.data(), curve.size()},
                           {CKA_LABEL, public_label.data(), public_label.size()},
                           {CKA_ID, id.data(), id.size()}};
    CK_ATTRIBUTE closed[] = {{CKA_TOKEN, &yes, sizeof yes},
                             {CKA_SIGN, &yes, sizeof yes},
                             {CKA_LABEL, private_label.data(), private_label.size()},
                             {CKA_ID, id.data(), id.size()}};
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, nullptr, 0};
    CK_OBJECT_HANDLE made[2] = {};
    EXPECT_EQ(calls_->C_GenerateKeyPair(session_, &mechanism, open, 4, closed, 4, &made[0], &made[1]), CKR_OK);
  }
  std::vector<CK_OBJECT_HANDLE> find(CK_OBJECT_CLASS kind, std::string label, Bytes id) {
    CK_ATTRIBUTE wanted[] = {
        {CKA_CLASS, &kind, sizeof kind}, {CKA_LABEL, label.data(), label.size()}, {CKA_ID, id.data(), id.size()}};
    CK_OBJECT_HANDLE found[64];
    CK_ULONG count = 0;
    EXPECT_EQ(calls_->C_FindObjectsInit(session_, wanted, 3), CKR_OK);
    EXPECT_EQ(calls_->C_FindObjects(session_, found, 64, &count), CKR_OK);
    calls_->C_FindObjectsFinal(session_);
    return {found, found + count};
  }
  size_t count(CK_OBJECT_CLASS kind, const std::string& label, const Bytes& id) { return find(kind, label, id).size(); }
  void destroy(CK_OBJECT_CLASS kind, const std::string& label, const Bytes& id) {
    for (const CK_OBJECT_HANDLE object : find(kind, label, id))
      EXPECT_EQ(calls_->C_DestroyObject(session_, object), CKR_OK);
  }

 private:
  CK_FUNCTION_LIST* calls_ = nullptr;
  CK_SESSION_HANDLE session_ = 0;
};

class Pkcs11SharedToken : public SoftToken {
 protected:
  void SetUp() override {
    SoftToken::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(open(config()), "ok");
    ASSERT_EQ(ids(), "");  // the module is initialized now, and the token logged in to
    application.emplace();
  }
  void TearDown() override {
    if (application) {
      for (const CK_OBJECT_CLASS kind : {CKO_PUBLIC_KEY, CKO_PRIVATE_KEY}) application->destroy(kind, theirs, id);
    }
    application.reset();
    SoftToken::TearDown();
  }
  // Which of several objects of one id a token shows first is its own affair: so many are before the right one, and
  // behind.
  void make_others() {
    for (int i = 0; i < kOthers; ++i) application->make_pair(theirs, theirs, id);
  }
  // Neither a list without the key nor a signature is to be had while the token has `trouble`.
  void refuses_while(const char* trouble, Code expected, const ManagedKey& key) {
    ASSERT_EQ(open(troubled()), "ok");
    tokens.trouble(trouble);
    const auto listed = try_list();
    ASSERT_FALSE(listed) << trouble << listed->size() << " keys";
    EXPECT_EQ(listed.error().code, expected) << trouble << listed.error().text();
    EXPECT_EQ(sign(key).error().code, expected) << trouble << sign(key).error().text();
    tokens.trouble("");
  }
  [[nodiscard]] size_t others(CK_OBJECT_CLASS kind) { return application->count(kind, theirs, id); }

  static constexpr int kOthers = 3;
  const std::string ours = "limpet:" + own() + ":key:x509-CA-A";
  const std::string theirs = "web server " + own();
  const Bytes id = {0x01};
  std::optional<Application> application;
};

TEST_P(Pkcs11SharedToken, APairOfAnOperatorIsNotTakenForAnothersOfTheSameId) {
  make_others();
  application->make_pair(ours, ours, id);
  make_others();
  ASSERT_EQ(ids(), "x509-CA-A");
  EXPECT_EQ(signs(list()[0]), "ok") << "the public key is of another pair";
  const auto replaced = generate("x509-CA-A");
  ASSERT_TRUE(replaced) << replaced.error().text();
  EXPECT_EQ(signs(*replaced), "ok");
  EXPECT_EQ(application->count(CKO_PUBLIC_KEY, ours, id), 0u);
  EXPECT_EQ(others(CKO_PUBLIC_KEY), 2u * kOthers) << "what others made is theirs";
  application->make_pair("limpet:" + own() + ":key:l", "limpet:" + own() + ":key:l", id);
  EXPECT_EQ(outcome(remove("l")), "ok");
  EXPECT_EQ(others(CKO_PUBLIC_KEY), 2u * kOthers);
  EXPECT_EQ(others(CKO_PRIVATE_KEY), 2u * kOthers);
  EXPECT_EQ(outcome(remove("x509-CA-A")), "ok");
}

TEST_P(Pkcs11SharedToken, APairWhosePublicObjectHasAnotherLabelWorksAndTheObjectStays) {
  for (const std::string& label : {std::string("the operator's"), std::string()}) {
    make_others();
    application->make_pair(ours, label, id);
    make_others();
    ASSERT_EQ(ids(), "x509-CA-A") << label;
    EXPECT_EQ(signs(list()[0]), "ok") << label;
    EXPECT_EQ(outcome(remove("x509-CA-A")), "ok");
    EXPECT_EQ(ids(), "");
    EXPECT_EQ(application->count(CKO_PUBLIC_KEY, label, id), 1u) << label;
    EXPECT_EQ(others(CKO_PUBLIC_KEY), others(CKO_PRIVATE_KEY));
    application->destroy(CKO_PUBLIC_KEY, label, id);
  }
}

TEST_P(Pkcs11SharedToken, APrivateKeyAloneDoesNotBorrowAnothersPublicKey) {
  make_others();
  application->make_pair(ours, ours, id);
  application->destroy(CKO_PUBLIC_KEY, ours, id);
  EXPECT_EQ(ids(), "") << "SoftHSM's private object does not show the point";
  EXPECT_EQ(outcome(remove("x509-CA-A")), "ok");
  EXPECT_EQ(others(CKO_PUBLIC_KEY), 1u * kOthers);
}

// Whoever takes such a key for one that is not there makes another, and has this one destroyed.
TEST_P(Pkcs11SharedToken, AKeyThatCannotBeReadJustNowIsNotLeftOut) {
  ASSERT_EQ(open(troubled()), "ok");
  ASSERT_TRUE(generate("another"));
  const auto made = generate("x509-CA-A");
  ASSERT_TRUE(made) << made.error().text();
  const struct {
    const char* trouble;
    Code expected;
  } kCases[] = {{"find_public 0x31\n", Code::resource_exhausted}, {"find_public 0x2\n", Code::resource_exhausted},
                {"find_public 0xa3\n", Code::permission_denied},  {"find_public 0x50\n", Code::unavailable},
                {"find_public 0x7\n", Code::unimplemented},       {"find_public 0x80000001\n", Code::unavailable},
                {"find_public 0x30\n", Code::unavailable}};
  for (const auto& [trouble, expected] : kCases) {
    ASSERT_NO_FATAL_FAILURE(refuses_while(trouble, expected, *made));
    EXPECT_EQ(ids(), "another x509-CA-A") << trouble;
    EXPECT_EQ(signs(*made), "ok") << trouble;
  }
  tokens.trouble("find_public 0x31\n");
  EXPECT_EQ(outcome(try_list()),
            "ResourceExhausted: keymanager(pkcs11): token \"one\": key \"another\": C_FindObjectsInit: "
            "CKR_DEVICE_MEMORY");
  tokens.trouble("");
  for (const char* id : {"another", "x509-CA-A"}) EXPECT_EQ(outcome(remove(id)), "ok");
}

TEST_P(Pkcs11SharedToken, ASignatureThatCannotBeMadeJustNowIsNoProofOfAnotherPair) {
  application->make_pair(ours, "the operator's", id);
  ASSERT_EQ(open(troubled()), "ok");
  ASSERT_EQ(ids(), "x509-CA-A");
  const ManagedKey key = list()[0];
  const struct {
    const char* trouble;
    Code expected;
  } kCases[] = {{"C_Sign 0x31\n", Code::resource_exhausted},    {"C_SignInit 0x2\n", Code::resource_exhausted},
                {"C_Sign 0xa3\n", Code::permission_denied},     {"C_Sign 0x50\n", Code::unavailable},
                {"C_SignInit 0x80000001\n", Code::unavailable}, {"C_SignInit 0x68\n", Code::permission_denied}};
  for (const auto& [trouble, expected] : kCases) {
    ASSERT_NO_FATAL_FAILURE(refuses_while(trouble, expected, key));
    EXPECT_EQ(signs(key), "ok") << trouble;
  }
  EXPECT_EQ(outcome(remove("x509-CA-A")), "ok");
  application->destroy(CKO_PUBLIC_KEY, "the operator's", id);
}

TEST_P(Pkcs11SharedToken, AKeyOfAnotherTypeIsOfAnotherPair) {
  application->make_rsa_pair(theirs, id);
  application->make_pair(ours, "the operator's", id);
  application->make_rsa_pair(theirs, id);
  ASSERT_EQ(open(troubled()), "ok");
  ASSERT_EQ(ids(), "x509-CA-A");
  EXPECT_EQ(signs(list()[0]), "ok");
  // what tokens say that do not show what type a private key is of
  tokens.trouble("C_SignInit 0x63\n");
  EXPECT_EQ(ids(), "");
  tokens.trouble("");
  application->destroy(CKO_PUBLIC_KEY, "the operator's", id);
  EXPECT_EQ(ids(), "") << "two candidates, and neither is it";
  EXPECT_EQ(outcome(remove("x509-CA-A")), "ok");
}

INSTANTIATE_TEST_SUITE_P(Loaded, Pkcs11SharedToken, ::testing::Values(Carrier::shared_object), carrier_name);

}  // namespace
}  // namespace limpet
