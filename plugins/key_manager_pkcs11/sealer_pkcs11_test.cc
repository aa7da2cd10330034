// SPDX-License-Identifier: Apache-2.0
// The sealer "pkcs11" with tokens of SoftHSM.
#include "soft_token.h"

namespace limpet {
namespace {

using namespace test;

class Pkcs11Sealer : public SoftToken {
 protected:
  Result<Bytes> seal(std::string_view secret, std::string_view context = "ctx") {
    return SoftToken::seal(secret, context);
  }
  std::string unseal(const Bytes& blob, std::string_view context = "ctx") {
    const auto opened =
        wait<SecretBytes>([&](Done<SecretBytes> done) { sealer->unseal(blob, to_bytes(context), std::move(done)); });
    return opened ? std::string(as_text(opened->view())) : opened.error().text();
  }
};

const std::string kNever = "FailedPrecondition: sealer(pkcs11): ";

TEST_P(Pkcs11Sealer, OpensWhatItSealedAlsoAfterARestart) {
  ASSERT_EQ(open_sealer(config()), "ok");
  const auto blob = seal("secret");
  ASSERT_TRUE(blob) << blob.error().text();
  const auto other = seal("secret");
  EXPECT_NE(*blob, *other);
  EXPECT_EQ(as_text(*blob).find("secret"), std::string_view::npos);
  EXPECT_EQ(unseal(*blob), "secret");
  ASSERT_EQ(open_sealer(config()), "ok");
  EXPECT_EQ(unseal(*blob), "secret");
  EXPECT_EQ(unseal(*other), "secret");
  const std::string large(4096, 'x');
  EXPECT_EQ(unseal(*seal(large, std::string(64, 'c')), std::string(64, 'c')), large);
  EXPECT_EQ(unseal(*seal("s", ""), ""), "s");
}

TEST_P(Pkcs11Sealer, AnythingChangedIsForEver) {
  ASSERT_EQ(open_sealer(config()), "ok");
  const Bytes blob = *seal("secret");
  EXPECT_TRUE(unseal(blob, "other").starts_with(kNever)) << unseal(blob, "other");
  EXPECT_TRUE(unseal(blob, "").starts_with(kNever));
  for (size_t at = 0; at < blob.size(); ++at) {
    Bytes changed = blob;
    changed[at] ^= 1;
    EXPECT_TRUE(unseal(changed).starts_with(kNever)) << at << " " << unseal(changed);
  }
  for (size_t size = 1; size < blob.size(); ++size)
    EXPECT_TRUE(unseal(to_bytes(BytesView(blob).first(size))).starts_with(kNever)) << size;
  EXPECT_EQ(unseal(blob), "secret") << "the session is as good as before";
}

TEST_P(Pkcs11Sealer, AnotherTokenOrNamespaceCannotOpenIt) {
  ASSERT_EQ(open_sealer(config()), "ok");
  const Bytes blob = *seal("secret");
  ASSERT_EQ(open_sealer(config("two")), "ok");
  EXPECT_EQ(unseal(blob),
            kNever + "token \"two\": the key that sealed it, \"limpet:" + own() + ":sealer\", is not in this token");
  ASSERT_TRUE(seal("x")) << "with a key of its own";
  EXPECT_TRUE(unseal(blob).starts_with(kNever));
  ASSERT_EQ(open_sealer(config("one", own() + "2")), "ok");
  EXPECT_TRUE(unseal(blob).starts_with(kNever));
  ASSERT_EQ(open_sealer(config()), "ok");
  EXPECT_EQ(unseal(blob), "secret");
}

TEST_P(Pkcs11Sealer, ATokenThatIsAwayIsNotForEver) {
  ASSERT_EQ(open_sealer(troubled()), "ok");
  const Bytes blob = *seal("secret");
  tokens.trouble("gone\n");
  EXPECT_TRUE(unseal(blob).starts_with("Unavailable: sealer(pkcs11): token \"one\": ")) << unseal(blob);
  EXPECT_EQ(seal("x").error().code, Code::unavailable);
  tokens.trouble("");
  EXPECT_EQ(unseal(blob), "secret");
  // What SoftHSM calls a wrong tag is what others say when the device is broken: then nothing else works either.
  tokens.trouble("C_Decrypt 0x5\nC_Encrypt 0x5\n");
  EXPECT_TRUE(unseal(blob).starts_with("Unavailable: ")) << unseal(blob);
  tokens.trouble("C_Decrypt 0x5\n");
  EXPECT_TRUE(unseal(blob).starts_with(kNever)) << unseal(blob);
  tokens.trouble("");
  EXPECT_EQ(unseal(blob), "secret");
}

TEST_P(Pkcs11Sealer, ATokenThatCannotWorkJustNowIsNotForEver) {
  ASSERT_EQ(open_sealer(troubled()), "ok");
  const Bytes blob = *seal("secret");
  const struct {
    const char* trouble;
    std::string expected;
  } kCases[] = {
      // no memory, of the device and of the host: also where there is enough for a small piece
      {"C_Decrypt 0x31\nC_Encrypt 0x31\n", "ResourceExhausted: "},
      {"C_Decrypt 0x2\nC_Encrypt 0x2\n", "ResourceExhausted: "},
      {"C_Decrypt 0x31\n", "ResourceExhausted: "},
      // the PIN has expired
      {"C_Decrypt 0xa3\nC_Encrypt 0xa3\n", "PermissionDenied: "},
      {"C_Decrypt 0xa3\n", "PermissionDenied: "},
      // a number of the vendor's: a wrong tag where the key works, anything else where it does not
      {"C_Decrypt 0x80000001\nC_Encrypt 0x80000001\n", "Unavailable: "},
      {"C_Decrypt 0x80000001\nC_Encrypt 0x31\n", "Unavailable: "},
      {"C_Decrypt 0x80000001\n", kNever},
      // what the standard calls a wrong tag needs no proof
      {"C_Decrypt 0x40\nC_Encrypt 0x31\n", kNever},
      {"C_Decrypt 0x41\nC_Encrypt 0x31\n", kNever},
  };
  for (const auto& [trouble, expected] : kCases) {
    tokens.trouble(trouble);
    EXPECT_TRUE(unseal(blob).starts_with(expected)) << trouble << unseal(blob);
  }
  tokens.trouble("");
  EXPECT_EQ(unseal(blob), "secret");
}

TEST_P(Pkcs11Sealer, ATokenMayTakeANonceOfItsOwn) {
  ASSERT_EQ(open_sealer(troubled()), "ok");
  const Bytes ours = *seal("secret");
  tokens.trouble("own_iv\n");
  const auto theirs = seal("secret");
  ASSERT_TRUE(theirs) << theirs.error().text();
  const auto next = seal("secret");
  ASSERT_TRUE(next) << next.error().text();
  EXPECT_NE(*theirs, *next);
  EXPECT_EQ(theirs->size(), ours.size());
  for (const Bytes& blob : {ours, *theirs, *next}) EXPECT_EQ(unseal(blob), "secret");
  tokens.trouble("");
  for (const Bytes& blob : {ours, *theirs, *next}) EXPECT_EQ(unseal(blob), "secret");
}

TEST_P(Pkcs11Sealer, WhatDoesNotOpenAgainIsNotGivenAway) {
  ASSERT_EQ(open_sealer(troubled()), "ok");
  ASSERT_TRUE(seal("secret"));
  const struct {
    const char* trouble;
    std::string expected;
  } kCases[] = {
      {"hidden_iv\n",
       "Internal: sealer(pkcs11): token \"one\": what the token sealed does not open again: C_Decrypt: "},
      {"C_Decrypt 0x40\n", "Internal: "},
      {"C_Decrypt 0x80000001\n", "Internal: "},
      // says nothing of the blob
      {"C_Decrypt 0x31\n", "ResourceExhausted: "},
      {"C_Decrypt 0x30\nC_Encrypt 0x30\n", "Unavailable: "},
  };
  for (const auto& [trouble, expected] : kCases) {
    tokens.trouble(trouble);
    EXPECT_TRUE(outcome(seal("secret")).starts_with(expected)) << trouble << outcome(seal("secret"));
  }
  tokens.trouble("");
  EXPECT_EQ(unseal(*seal("secret")), "secret");
}

TEST_P(Pkcs11Sealer, StandsBesideAKeyManagerInOneToken) {
  ASSERT_EQ(open(config()), "ok");
  ASSERT_EQ(open_sealer(config()), "ok");
  const auto key = generate("k");
  const Bytes blob = *seal("secret");
  EXPECT_EQ(signs(*key), "ok");
  EXPECT_EQ(unseal(blob), "secret");
  EXPECT_EQ(ids(), "k");
}

INSTANTIATE_TEST_SUITE_P(Loaded, Pkcs11Sealer, ::testing::Values(Carrier::shared_object), carrier_name);

}  // namespace
}  // namespace limpet
