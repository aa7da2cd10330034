// SPDX-License-Identifier: Apache-2.0
#include "carriers.h"
#include "plugin/key_manager_facade.h"

namespace limpet {
namespace {

using namespace test;

class MemoryKeys : public ShippedPlugin {
 protected:
  MemoryKeys() {
    instance = create("key_manager_memory", LIMPET_KEY_MANAGER, kKeyManagerPrefix);
    EXPECT_EQ(outcome(configure(*instance, "{}")), "ok");
    keys = make_key_manager(instance);
  }
  Result<ManagedKey> generate(const std::string& id, KeyType type = KeyType::ec_p256) {
    return wait<ManagedKey>([&](Done<ManagedKey> done) { keys->generate(id, type, std::move(done)); });
  }
  Result<Bytes> sign(const ManagedKey& key, HashAlg alg, Bytes digest) {
    return wait<Bytes>([&](Done<Bytes> done) { keys->sign(key, alg, std::move(digest), std::move(done)); });
  }
  std::shared_ptr<Instance> instance;
  std::unique_ptr<KeyManager> keys;
};

TEST_P(MemoryKeys, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(outcome(configure(*instance, R"({"path":"x"})")),
            "InvalidArgument: keymanager(memory): unknown key \"path\"; known: none");
  EXPECT_EQ(outcome(generate("")), "InvalidArgument: keymanager(memory): a key id has 1 to 255 bytes of UTF-8");
  EXPECT_EQ(outcome(generate(std::string(256, 'a'))),
            "InvalidArgument: keymanager(memory): a key id has 1 to 255 bytes of UTF-8");
  EXPECT_EQ(outcome(generate("k", static_cast<KeyType>(9))),
            "InvalidArgument: keymanager(memory): key type 9 is not known");
  auto key = generate("k");
  ASSERT_EQ(outcome(key), "ok");
  EXPECT_EQ(outcome(sign(*key, HashAlg::sha256, Bytes(31))),
            "InvalidArgument: keymanager(memory): the digest has 31 bytes, its hash makes 32");
  EXPECT_EQ(outcome(sign(*key, static_cast<HashAlg>(4), Bytes(32))),
            "Unimplemented: keymanager(memory): hash 4 is not supported");
  key->id = "other";
  EXPECT_EQ(outcome(sign(*key, HashAlg::sha256, Bytes(32))), "NotFound: keymanager(memory): no such key \"other\"");
}

TEST_P(MemoryKeys, EveryTypeOfKeySignsWhatItsPublicKeyVerifies) {
  for (const KeyType type : {KeyType::ec_p256, KeyType::ec_p384, KeyType::rsa_2048}) {
    const auto key = generate("k", type);
    ASSERT_EQ(outcome(key), "ok");
    EXPECT_EQ(key->type, type);
    const HashAlg alg = hash_for(type);
    const Bytes digest = hash(alg, as_bytes("data"));
    const auto signature = sign(*key, alg, digest);
    ASSERT_EQ(outcome(signature), "ok");
    EXPECT_TRUE(key->key.verify(alg, digest, *signature));
  }
}

TEST_P(MemoryKeys, ReplacingAKeyChangesItsFingerprintAndStopsTheOldOne) {
  const auto before = generate("k");
  const auto after = generate("k");
  ASSERT_TRUE(before && after);
  EXPECT_NE(before->fingerprint, after->fingerprint);
  EXPECT_EQ(sign(*before, HashAlg::sha256, Bytes(32)).error().code, Code::failed_precondition);
  EXPECT_EQ(outcome(sign(*after, HashAlg::sha256, Bytes(32))), "ok");
}

TEST_P(MemoryKeys, ListsWhatWasMadeAndForgetsWhatWasRemoved) {
  ASSERT_TRUE(generate("b"));
  ASSERT_TRUE(generate("a"));
  const auto list = [&] { return wait<std::vector<ManagedKey>>([&](auto done) { keys->list(std::move(done)); }); };
  const auto two = list();
  ASSERT_EQ(outcome(two), "ok");
  ASSERT_EQ(two->size(), 2u);
  EXPECT_EQ((*two)[0].id, "a");
  EXPECT_EQ(outcome(wait<void>([&](Done<void> done) { keys->remove("a", std::move(done)); })), "ok");
  EXPECT_EQ(outcome(wait<void>([&](Done<void> done) { keys->remove("a", std::move(done)); })),
            "NotFound: keymanager(memory): no such key \"a\"");
  EXPECT_EQ(list()->size(), 1u);
}

TEST_P(MemoryKeys, TwoInstancesShareNothing) {
  ASSERT_TRUE(generate("k"));
  auto other = create("key_manager_memory", LIMPET_KEY_MANAGER, kKeyManagerPrefix);
  ASSERT_EQ(outcome(configure(*other, "{}")), "ok");
  auto other_keys = make_key_manager(other);
  EXPECT_TRUE(wait<std::vector<ManagedKey>>([&](auto done) { other_keys->list(std::move(done)); })->empty());
}

BOTH_CARRIERS(MemoryKeys);

}  // namespace
}  // namespace limpet
