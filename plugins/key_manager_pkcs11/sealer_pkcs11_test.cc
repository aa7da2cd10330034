// SPDX-License-Identifier: Apache-2.0
// The sealer "pkcs11" with tokens of SoftHSM.
#include "soft_token.h"

namespace limpet {
namespace {

using namespace test;

class Pkcs11Sealer : public SoftToken {
 protected:
  Result<Bytes> seal(std::string_view secret, std::string_view context = "ctx") {
    return wait<Bytes>(
        [&](Done<Bytes> done) { sealer->seal(SecretBytes(as_bytes(secret)), to_bytes(context), std::move(done)); });
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
