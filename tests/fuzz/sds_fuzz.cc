// SPDX-License-Identifier: Apache-2.0
// What an Envoy asks for: a DiscoveryRequest, read as the agent reads it, and the secrets it is answered with. What was
// encoded must decode, and only what the workload may have is in it.
#include "agent/sds_messages.h"
#include "fuzz.h"
#include "wire/message.h"

namespace limpet::agent {
namespace {

using Request = envoy_service_secret_v3_DiscoveryRequest;
using Response = envoy_service_secret_v3_DiscoveryResponse;
using Secret = envoy_service_secret_v3_Secret;

constexpr int64_t kNow = 50;

// One identity that sees one foreign bundle, and a bundle that nobody sees.
IdentityCache make_cache() {
  IdentityCache cache;
  Entry entry;
  entry.id = "a";
  entry.spiffe_id = *SpiffeId::parse("spiffe://example.org/one");
  entry.selectors = {{"unix", "uid:1"}};
  entry.federates_with = {"other.org"};
  cache.put_entry(entry);
  auto svid = std::make_unique<CachedSvid>();
  svid->chain = {0x30, 0x02, 0x05, 0x00};
  svid->key = SecretBytes(Bytes(100, 7));
  svid->not_after = 100;
  cache.put_svid(*cache.find("a"), std::move(svid));
  for (const char* name : {"example.org", "other.org", "unseen.org"}) {
    Bundle bundle;
    bundle.trust_domain = *TrustDomain::parse(name);
    bundle.x509_authorities = {{{0x30, 0x02, 0x05, 0x00}, false}};
    cache.put_bundle(std::move(bundle));
  }
  return cache;
}

void check_answer(const Bytes& bytes, const std::set<std::string>& names) {
  const auto response = wire::Message<Response>::decode(bytes);
  FUZZ_CHECK(response.has_value());
  FUZZ_CHECK((*response)->resources_count <= 4);
  for (const auto& resource : wire::items((*response)->resources, (*response)->resources_count)) {
    const auto secret = wire::Message<Secret>::decode(wire::view(resource.value));
    FUZZ_CHECK(secret.has_value());
    const std::string name(wire::view((*secret)->name));
    FUZZ_CHECK(names.empty() || names.contains(name));
    FUZZ_CHECK(name != "spiffe://unseen.org");
  }
}

void run(BytesView bytes) {
  static IdentityCache cache = make_cache();
  static const SdsConfig config;
  const auto request = wire::Message<Request>::decode(bytes, {.items = 1000});
  if (!request) return;
  std::set<std::string> names;
  for (const char* name : wire::items((*request)->resource_names, (*request)->resource_names_count))
    names.emplace(wire::view(name));
  const SdsNode node = (*request)->has_node ? read_sds_node((*request)->node) : SdsNode();
  const auto identities = cache.match({{"unix", "uid:1"}});
  const auto answer = encode_secrets({config, names, node, "1", "00"}, identities, cache, "example.org", kNow);
  if (answer) check_answer(*answer, names);
}

}  // namespace
}  // namespace limpet::agent

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  limpet::agent::run({data, size});
  return 0;
}
