// SPDX-License-Identifier: Apache-2.0
// What Envoy is given under which name.
#include <gtest/gtest.h>

#include "agent/sds_messages.h"
#include "fakes.h"
#include "wire/message.h"

namespace limpet::test {
namespace {

using agent::CachedSvid;
using agent::IdentityCache;
using agent::SdsNode;
using Response = envoy_service_secret_v3_DiscoveryResponse;
using Secret = envoy_service_secret_v3_Secret;

// Two entries, the first with an SVID that ends at 100, the second with none; the first sees other.org.
struct Rig {
  Rig() {
    Entry one = make_entry("a", "/one", {{"unix", "uid:1"}});
    one.federates_with = {"other.org", "unknown.org"};
    cache.put_entry(one);
    cache.put_entry(make_entry("b", "/two", {{"unix", "uid:1"}}));
    auto svid = std::make_unique<CachedSvid>();
    svid->chain = {0x30, 0x02, 0x05, 0x00};
    svid->key = SecretBytes(Bytes(100, 7));
    svid->not_after = 100;
    cache.put_svid(*cache.find("a"), std::move(svid));
    for (const char* name : {"example.org", "other.org", "unseen.org"}) {
      Bundle bundle;
      bundle.trust_domain = *TrustDomain::parse(name);
      bundle.x509_authorities = {{{0x30, 0x02, 0x05, 0x00}, false}, {{0x30, 0x81, 0x01, 0x00}, false}};
      cache.put_bundle(std::move(bundle));
    }
  }
  // The names given, or the error.
  std::string ask(const std::set<std::string>& names, SdsNode node = {}, int64_t now = 50) {
    auto bytes =
        agent::encode_secrets({config, names, node, "1", "00"}, cache.match(workload), cache, "example.org", now);
    if (!bytes) return bytes.error().text();
    auto response = wire::Message<Response>::decode(*bytes);
    std::string out;
    for (const auto& resource : wire::items((*response)->resources, (*response)->resources_count)) {
      auto secret = wire::Message<Secret>::decode(wire::view(resource.value));
      out += (out.empty() ? "" : " ") + std::string(wire::view((*secret)->name));
      last = std::move(*secret);
    }
    return out;
  }

  IdentityCache cache;
  SelectorSet workload = make_selector_set({{"unix", "uid:1"}});
  SdsConfig config;
  wire::Message<Secret> last;
};

constexpr const char* kOne = "spiffe://example.org/one";

TEST(SdsMessages, EveryNameStandsForWhatTheWorkloadMayHave) {
  const struct {
    std::set<std::string> names;
    const char* given;
  } rows[] = {
      {{}, "spiffe://example.org spiffe://other.org spiffe://example.org/one"},
      {{"default"}, "default"},
      {{kOne}, kOne},
      {{"ROOTCA", "default"}, "ROOTCA default"},
      {{"ALL"}, "ALL"},
      {{"spiffe://other.org"}, "spiffe://other.org"},
      {{"spiffe://unseen.org"},
       "InvalidArgument: workload is not authorized for the requested identities [\"spiffe://unseen.org\"]"},
      {{"spiffe://example.org/two"},
       "InvalidArgument: workload is not authorized for the requested identities [\"spiffe://example.org/two\"]"},
  };
  for (const auto& row : rows) {
    Rig rig;
    EXPECT_NE(rig.ask(row.names).find(row.given), std::string::npos) << row.given << " but " << rig.ask(row.names);
  }
}

TEST(SdsMessages, AnExpiredSvidIsNotGiven) {
  Rig rig;
  EXPECT_EQ(rig.ask({kOne}, {}, 99), kOne);
  EXPECT_NE(rig.ask({kOne}, {}, 100).find("not authorized"), std::string::npos);
  EXPECT_NE(rig.ask({"default"}, {}, 100).find("not authorized"), std::string::npos);
}

TEST(SdsMessages, AllBundlesNeedTheSpiffeValidator) {
  Rig rig;
  const SdsNode old{.old_envoy = true};
  const std::string refusal = "Internal: unable to use \"SPIFFE validator\" on Envoy below 1.17";
  EXPECT_EQ(rig.ask({"ALL"}, old), refusal);
  EXPECT_EQ(rig.ask({"ROOTCA"}, old), "ROOTCA");
  EXPECT_TRUE(rig.last->type.validation_context.has_trusted_ca);
}

// Also with one bundle: the answer is the same for every Envoy of that age.
TEST(SdsMessages, AllBundlesNeedTheValidatorThoughThereBeOneOnly) {
  Rig rig;
  Entry one = make_entry("a", "/one", {{"unix", "uid:1"}});
  rig.cache.put_entry(one);
  EXPECT_EQ(rig.ask({"ALL"}), "ALL");
  EXPECT_TRUE(rig.ask({"ALL"}, {.old_envoy = true}).starts_with("Internal: unable to use"));
}

// Another identity under the default name would change who an Envoy is.
TEST(SdsMessages, TheDefaultNameNeverMovesToAnotherIdentity) {
  Rig rig;
  auto svid = std::make_unique<CachedSvid>();
  svid->chain = {0x30, 0x02, 0x05, 0x00};
  svid->key = SecretBytes(Bytes(100, 7));
  svid->not_after = 1000;
  rig.cache.put_svid(*rig.cache.find("b"), std::move(svid));
  EXPECT_EQ(rig.ask({"spiffe://example.org/two"}, {}, 500), "spiffe://example.org/two");
  EXPECT_NE(rig.ask({"default"}, {}, 500).find("not authorized"), std::string::npos);
}

TEST(SdsMessages, EachCertificateIsAPemBlockOfItsOwn) {
  Rig rig;
  ASSERT_EQ(rig.ask({"ROOTCA"}, {.disabled = true}), "ROOTCA");
  const auto pem = as_text(wire::view(rig.last->type.validation_context.trusted_ca.inline_bytes));
  const auto blocks = pem_decode(pem);
  ASSERT_TRUE(blocks);
  EXPECT_EQ(blocks->size(), 2u);
}

TEST(SdsMessages, TheKeyIsOnePemBlock) {
  Rig rig;
  ASSERT_EQ(rig.ask({"default"}), "default");
  const auto pem = as_text(wire::view(rig.last->type.tls_certificate.private_key.inline_bytes));
  EXPECT_EQ(std::string(pem), pem_encode("PRIVATE KEY", Bytes(100, 7)));
}

}  // namespace
}  // namespace limpet::test
