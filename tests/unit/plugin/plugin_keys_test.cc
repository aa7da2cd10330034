// SPDX-License-Identifier: Apache-2.0
// What plugins may ask of the role's key manager and sealer: limpet.keys/1 and limpet.seal/1, through the host struct.
#include "plugin/plugin_keys.h"

#include <gtest/gtest.h>

#include "crypto/x509.h"
#include "loop/destroy_at_every_step.h"
#include "plugin/instance.h"
#include "plugin/key_csr.h"
#include "scripted.h"
#include "support/fake_services.h"

namespace limpet {
namespace {

using namespace test;

// Of the kind that may use every service. Its table is never called.
constexpr limpet_component kServerSide = [] {
  limpet_component c = kScripted<0>;
  c.interface_id = LIMPET_NODE_ATTESTOR_SERVER;
  return c;
}();

limpet_str text(std::string_view s) { return {s.data(), s.size()}; }
limpet_bytes bytes(BytesView b) { return {b.data(), b.size()}; }
std::string to_string(limpet_str s) { return s.len == 0 ? "" : std::string(s.ptr, s.len); }

struct Heard {
  std::vector<std::string> said;
  Bytes got;
};
std::string error_text(const limpet_status* error) {
  return "error " + std::to_string(error->code) + " " + to_string(error->message);
}
void on_found(void* arg, const limpet_status* error, const limpet_public_key* key) {
  auto& heard = *static_cast<Heard*>(arg);
  if (error != nullptr) return heard.said.push_back(error_text(error));
  heard.said.push_back("key " + to_string(key->id) + " of type " + std::to_string(key->type));
  heard.got = Bytes(key->spki_der.ptr, key->spki_der.ptr + key->spki_der.len);
}
void on_bytes(void* arg, const limpet_status* error, limpet_bytes answer) {
  auto& heard = *static_cast<Heard*>(arg);
  if (error != nullptr) return heard.said.push_back(error_text(error));
  heard.said.push_back("bytes");
  heard.got = Bytes(answer.ptr, answer.ptr + answer.len);
}

class PluginKeysTest : public ::testing::Test {
 protected:
  PluginKeysTest() : key(*PrivateKey::generate(KeyType::ec_p256)), ca(*PrivateKey::generate(KeyType::ec_p256)) {
    holder.put("attest-device", key);
    holder.put("x509-CA-A", ca);
    open("workloadattestor");
  }
  ~PluginKeysTest() override { instance->close(); }
  void open(std::string_view kind) {
    if (instance) instance->close();
    HostServices services;
    services.keys = &keys;
    services.sealer = &sealer;
    instance = *Instance::create({loop, Logger::none(), "example.org", services}, kServerSide, kind);
  }
  template <class Table>
  const Table* service(const char* id) {
    return static_cast<const Table*>(script.host->service(script.host, id));
  }
  std::string find(std::string_view id) {
    EXPECT_NE(service<limpet_keys_service>(LIMPET_SERVICE_KEYS)->find(script.host, text(id), &on_found, &heard), 0u);
    return told();
  }
  uint32_t start_sign(std::string_view id, uint32_t hash_number, BytesView digest, int32_t salt = -1) {
    const limpet_sign_request request = {sizeof request, hash_number, text(id), bytes(digest), salt, 0, {}};
    return service<limpet_keys_service>(LIMPET_SERVICE_KEYS)->sign(script.host, &request, &on_bytes, &heard);
  }
  std::string sign(std::string_view id, BytesView digest) {
    EXPECT_NE(start_sign(id, 5, digest), 0u);
    return told();
  }
  std::string seal(std::string_view plain, std::string_view context) {
    EXPECT_NE(service<limpet_seal_service>(LIMPET_SERVICE_SEAL)
                  ->seal(script.host, bytes(as_bytes(plain)), bytes(as_bytes(context)), &on_bytes, &heard),
              0u);
    return told();
  }
  std::string unseal(const Bytes& blob, std::string_view context) {
    EXPECT_NE(service<limpet_seal_service>(LIMPET_SERVICE_SEAL)
                  ->unseal(script.host, bytes(blob), bytes(as_bytes(context)), &on_bytes, &heard),
              0u);
    const std::string said = told();
    return said == "bytes" ? std::string(as_text(heard.got)) : said;
  }
  std::string told() {
    EXPECT_TRUE(heard.said.empty()) << "not within the call";
    loop.run_ready();
    if (heard.said.size() != 1) return std::to_string(heard.said.size()) + " answers";
    const std::string said = heard.said[0];
    heard.said.clear();
    return said;
  }

  Script script;
  FakeLoop loop;
  PrivateKey key;
  PrivateKey ca;
  KeyHolder holder{loop};
  PluginKeys keys{holder};
  OpenSealer sealer{loop};
  Heard heard;
  std::shared_ptr<Instance> instance;
};

TEST_F(PluginKeysTest, AKeyIsFoundByItsNameAndSigns) {
  EXPECT_EQ(find("device"), "key device of type 1");
  EXPECT_EQ(heard.got, key.public_key().spki());
  const Bytes digest = sha256(as_bytes("data"));
  EXPECT_EQ(sign("device", digest), "bytes");
  EXPECT_TRUE(key.public_key().verify(HashAlg::sha256, digest, heard.got));
}

TEST_F(PluginKeysTest, TheRolesOwnKeysCannotBeNamed) {
  for (const char* id : {"x509-CA-A", "-device", "", "../x509-CA-A", "attest-device"})
    EXPECT_EQ(find(id), "error 5 key manager holder has no key \"attest-" + std::string(id) +
                            "\"; `limpet key csr -keyID " + std::string(id) + "` makes it");
  EXPECT_EQ(sign("x509-CA-A", Bytes(32)), "error 5 no key attest-x509-CA-A");
  EXPECT_EQ(holder.asked, std::vector<std::string>{"attest-x509-CA-A"});
}

TEST_F(PluginKeysTest, SigningTakesAKeyThatWasFoundAndIsThereStill) {
  EXPECT_EQ(sign("device", Bytes(32)), "error 9 attest-device was replaced") << "not found before";
  find("device");
  holder.put("attest-device", ca);
  EXPECT_EQ(sign("device", Bytes(32)), "error 9 attest-device was replaced");
  find("device");
  EXPECT_EQ(sign("device", Bytes(32)), "bytes");
}

TEST_F(PluginKeysTest, RequestsThatMakeNoSenseAreNotBegun) {
  EXPECT_EQ(start_sign("device", 5, Bytes(31)), 0u);
  EXPECT_EQ(start_sign("device", 6, Bytes(32)), 0u);
  EXPECT_EQ(start_sign("device", 0, Bytes(32)), 0u);
  EXPECT_EQ(start_sign("device", 8, Bytes(32)), 0u);
  EXPECT_EQ(start_sign("device", 5, BytesView(static_cast<const uint8_t*>(nullptr), 32)), 0u);
  limpet_sign_request shorter = {8, 5, text("device"), bytes(Bytes(32)), -1, 0, {}};
  EXPECT_EQ(service<limpet_keys_service>(LIMPET_SERVICE_KEYS)->sign(script.host, &shorter, &on_bytes, &heard), 0u);
  const auto* seals = service<limpet_seal_service>(LIMPET_SERVICE_SEAL);
  const Bytes much(9000);
  EXPECT_EQ(seals->seal(script.host, bytes(much), {}, &on_bytes, &heard), 0u);
  EXPECT_EQ(seals->seal(script.host, {nullptr, 5}, {}, &on_bytes, &heard), 0u);
  EXPECT_EQ(seals->seal(script.host, bytes(Bytes(1)), bytes(Bytes(33)), &on_bytes, &heard), 0u);
  EXPECT_EQ(seals->unseal(script.host, bytes(Bytes(1)), {nullptr, 5}, &on_bytes, &heard), 0u);
  loop.run_ready();
  EXPECT_TRUE(heard.said.empty());
}

TEST_F(PluginKeysTest, AStoppedCallSaysNothing) {
  const uint32_t id =
      service<limpet_keys_service>(LIMPET_SERVICE_KEYS)->find(script.host, text("device"), &on_found, &heard);
  service<limpet_keys_service>(LIMPET_SERVICE_KEYS)->stop(script.host, id);
  loop.run_ready();
  EXPECT_TRUE(heard.said.empty());
}

TEST_F(PluginKeysTest, ABlobIsOfTheComponentThatSealedIt) {
  EXPECT_EQ(seal("secret", "ctx"), "bytes");
  const Bytes blob = heard.got;
  EXPECT_EQ(unseal(blob, "ctx"), "secret");
  EXPECT_EQ(unseal(blob, "other"), "error 9 another device");
  open("keymanager");
  EXPECT_EQ(unseal(blob, "ctx"), "error 9 another device") << "another component's";
  sealer.away = true;
  EXPECT_EQ(unseal(blob, "ctx"), "error 14 no such device");
}

TEST_F(PluginKeysTest, TheServicesAreAbsentWhereThereIsNothingBehindThem) {
  instance->close();
  instance = *Instance::create({loop, Logger::none(), "example.org"}, kServerSide, "workloadattestor");
  EXPECT_EQ(script.host->service(script.host, LIMPET_SERVICE_KEYS), nullptr);
  EXPECT_EQ(script.host->service(script.host, LIMPET_SERVICE_SEAL), nullptr);
}

// ---- CSRs ----
TEST(KeyCsr, UsesTheKeyThatIsThere) {
  FakeLoop loop;
  KeyHolder holder(loop);
  const PrivateKey key = *PrivateKey::generate(KeyType::ec_p384);
  holder.put("k", key);
  KeyCsrFlow flow(holder);
  Waiter<KeyAndCsr> waiter;
  CsrWish wish{"k", KeyType::ec_p384, encode_name({{kOidCommonName, "dev"}}), {"dev.example.org"}, true};
  flow.start(wish, waiter.arm());
  loop.run_ready();
  ASSERT_EQ(outcome(waiter), "ok");
  const auto csr = Csr::parse((*waiter.result)->csr);
  ASSERT_TRUE(csr && csr->verify());
  EXPECT_EQ(csr->key, key.public_key());
  EXPECT_EQ(csr->dns_names, std::vector<std::string>{"dev.example.org"});
  EXPECT_EQ(csr->subject, wish.subject);
  wish.type = KeyType::ec_p256;
  Waiter<KeyAndCsr> other;
  flow.start(wish, other.arm());
  loop.run_ready();
  EXPECT_EQ(outcome(other),
            "FailedPrecondition: key k is there already, as ec-p384; ask for that type, or have it replaced");
}

TEST(KeyCsr, MayBeDestroyedAtEachOfItsSteps) {
  struct Scenario {
    explicit Scenario(FakeLoop& loop) : holder(loop), key(*PrivateKey::generate(KeyType::ec_p256)) {
      holder.put("k", key);
      flow = std::make_unique<KeyCsrFlow>(holder);
      flow->start({"k", KeyType::ec_p256, encode_name({}), {}, true}, waiter.arm());
    }
    KeyHolder holder;
    PrivateKey key;
    Waiter<KeyAndCsr> waiter;
    std::unique_ptr<KeyCsrFlow> flow;
  };
  EXPECT_GE(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<Scenario>(loop); }), 2u);
}

}  // namespace
}  // namespace limpet
