// SPDX-License-Identifier: Apache-2.0
#include "server/svid_api.h"

#include "proto/spire_bundle.pb.h"
#include "proto/spire_debug.pb.h"
#include "proto/spire_svid.pb.h"
#include "server_rig.h"

namespace limpet::server::test {
namespace {

using MintRequest = spire_api_server_svid_v1_MintX509SVIDRequest;
using MintResponse = spire_api_server_svid_v1_MintX509SVIDResponse;
using BatchRequest = spire_api_server_svid_v1_BatchNewX509SVIDRequest;
using BatchResponse = spire_api_server_svid_v1_BatchNewX509SVIDResponse;

Bytes tampered(Bytes csr) {
  csr.back() ^= 1;
  return csr;
}
Result<wire::Message<MintResponse>> mint(ServerRig& rig, const Bytes& csr, int32_t ttl = 0) {
  wire::Message<MintRequest> request;
  wire::set_bytes(request->csr, csr);
  request->ttl = ttl;
  return rig.unary<MintResponse>("svid.v1.SVID", "MintX509SVID", rig.local(), request);
}

TEST(MintX509Svid, RefusesWhatACsrMustNotSay) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  const std::string id = "spiffe://example.org/web";
  struct Case {
    Bytes csr;
    const char* text;
  };
  const Case cases[] = {
      {{}, "missing CSR"},
      {to_bytes("x"), "malformed CSR: "},
      {tampered(ServerRig::csr({id})), "failed to verify CSR signature: "},
      {ServerRig::csr({}), "CSR URI SAN is required"},
      {ServerRig::csr({id, "spiffe://example.org/b"}), "only one URI SAN is expected"},
      {ServerRig::csr({"https://example.org"}), "CSR URI SAN is invalid: "},
      {ServerRig::csr({"spiffe://other.org/web"}),
       "CSR URI SAN is invalid: \"spiffe://other.org/web\" is not a member of trust domain \"example.org\""},
      {ServerRig::csr({"spiffe://example.org/spire/server"}), "CSR URI SAN is invalid: "},
      {ServerRig::csr({"spiffe://example.org"}), "CSR URI SAN is invalid: "},
      {ServerRig::csr({id}, {"a.b", "a.b"}), "CSR DNS name is not unique"},
      {ServerRig::csr({id}, {"*.b", "a.b"}), "CSR DNS name contains a wildcard"},
      {ServerRig::csr({id}, {"a_*"}), "CSR DNS name is not valid"},
  };
  for (const Case& c : cases) {
    auto response = mint(rig, c.csr);
    ASSERT_FALSE(response) << c.text;
    EXPECT_EQ(response.error().code, Code::invalid_argument) << c.text;
    EXPECT_EQ(response.error().message.substr(0, std::string(c.text).size()), c.text);
  }
}

TEST(MintX509Svid, HonoursSubjectDnsNamesAndTtl) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  auto response = mint(
      rig, ServerRig::csr({"spiffe://example.org/web"}, {"web.local"}, encode_name({{kOidOrganization, "ACME"}})), 120);
  ASSERT_TRUE(response) << response.error().text();
  Certificate leaf = *Certificate::parse(wire::view((*response)->svid.cert_chain[0]));
  EXPECT_EQ(leaf.subject_text(), "CN=web.local,O=ACME");
  EXPECT_EQ(leaf.dns_names, std::vector<std::string>{"web.local"});
  EXPECT_EQ(leaf.not_after, kStart + 120);
  EXPECT_EQ((*response)->svid.expires_at, kStart + 120);
  EXPECT_EQ(wire::view((*response)->svid.id.path), "/web");
  auto plain = mint(rig, ServerRig::csr({"spiffe://example.org/web"}));
  ASSERT_TRUE(plain);
  EXPECT_EQ(Certificate::parse(wire::view((*plain)->svid.cert_chain[0]))->subject_text(), "O=SPIRE,C=US");
  EXPECT_EQ((*plain)->svid.expires_at, kStart + 3600);
}

struct BatchRig : ServerRig {
  BatchRig() {
    EXPECT_TRUE(start());
    put_agent("/spire/agent/join_token/t", "9");
    Entry first = entry("e-1", "/spire/agent/join_token/t", "/web");
    first.x509_svid_ttl = 120;
    first.dns_names = {"web.local"};
    put_entry(first);
    put_entry(entry("e-2", "/other", "/foreign"));
  }
  wire::Peer agent() { return remote({certificate("spiffe://example.org/spire/agent/join_token/t")}); }
  static void set(spire_api_server_svid_v1_NewX509SVIDParams& params, const std::string& id, const Bytes& csr) {
    wire::set_string(params.entry_id, id);
    wire::set_bytes(params.csr, csr);
  }
};

TEST(BatchNewX509Svid, GivesEachItemItsOwnOutcome) {
  BatchRig rig;
  wire::Message<BatchRequest> request;
  auto* params = wire::set_array(request->params, request->params_count, 7);
  const Bytes csr = ServerRig::csr();
  BatchRig::set(params[0], "e-1", csr);
  BatchRig::set(params[1], "", csr);
  BatchRig::set(params[2], "e-1", {});
  BatchRig::set(params[3], "none", csr);
  BatchRig::set(params[4], "e-2", csr);
  BatchRig::set(params[5], "e-1", to_bytes("x"));
  BatchRig::set(params[6], "e-1", tampered(csr));
  auto response = rig.unary<BatchResponse>("svid.v1.SVID", "BatchNewX509SVID", rig.agent(), request);
  ASSERT_TRUE(response) << response.error().text();
  ASSERT_EQ((*response)->results_count, 7);
  const std::pair<int, const char*> expected[] = {{0, "OK"},
                                                  {3, "missing entry ID"},
                                                  {3, "missing CSR"},
                                                  {5, "entry not found or not authorized"},
                                                  {5, "entry not found or not authorized"},
                                                  {3, "malformed CSR: "},
                                                  {3, "invalid CSR signature: "}};
  for (size_t i = 0; i < 7; i++) {
    const auto& result = (*response)->results[i];
    EXPECT_EQ(result.status.code, expected[i].first) << i;
    EXPECT_EQ(std::string(wire::view(result.status.message)).substr(0, std::string(expected[i].second).size()),
              expected[i].second);
    EXPECT_EQ(result.has_svid, i == 0);
  }
  Certificate leaf = *Certificate::parse(wire::view((*response)->results[0].svid.cert_chain[0]));
  EXPECT_EQ(leaf.uris, std::vector<std::string>{"spiffe://example.org/web"});
  EXPECT_EQ(leaf.not_after, kStart + 120);
  EXPECT_EQ(leaf.dns_names, std::vector<std::string>{"web.local"});
}

TEST(BatchNewX509Svid, IsLimitedByTheNumberOfItems) {
  BatchRig rig;
  wire::Message<BatchRequest> request;
  EXPECT_EQ(rig.unary<BatchResponse>("svid.v1.SVID", "BatchNewX509SVID", rig.agent(), request).error().message,
            "missing parameters");
  wire::set_array(request->params, request->params_count, 501);
  auto too_many = rig.unary<BatchResponse>("svid.v1.SVID", "BatchNewX509SVID", rig.agent(), request);
  EXPECT_EQ(too_many.error().code, Code::resource_exhausted);
  EXPECT_EQ(too_many.error().message,
            "rejecting request due to certificate signing rate limiting: rate (501) exceeds burst size (500)");
}

TEST(BatchNewX509Svid, MayDieAtEachOfItsSteps) {
  size_t steps = 0;
  for (size_t die_at = 0; die_at <= steps + 1; die_at++) {
    BatchRig rig;
    wire::Message<BatchRequest> request;
    auto* params = wire::set_array(request->params, request->params_count, 2);
    BatchRig::set(params[0], "e-1", ServerRig::csr());
    BatchRig::set(params[1], "none", ServerRig::csr());
    auto open = rig.open("spire.api.server.svid.v1.SVID", "BatchNewX509SVID", rig.agent());
    open.call->say(*request.encode());
    size_t step = 0;
    for (; step < 40 && !open.call->status; step++) {
      if (die_at > 0 && step == die_at) break;
      if (!rig.step()) rig.loop.run_next_timer();
    }
    if (die_at == 0) steps = step;
    open.flow.reset();
    rig.run();
  }
  EXPECT_GT(steps, 4u);
}

TEST(Bundle, IsServedMaskedCountedAndAppendedTo) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  wire::Message<spire_api_server_bundle_v1_GetBundleRequest> get;
  auto whole = rig.unary<spire_api_types_Bundle>("bundle.v1.Bundle", "GetBundle", rig.remote(), get);
  ASSERT_TRUE(whole);
  EXPECT_EQ(wire::view((*whole)->trust_domain), "example.org");
  EXPECT_EQ((*whole)->x509_authorities_count, 1);
  EXPECT_EQ((*whole)->sequence_number, 1u);
  get->has_output_mask = true;
  get->output_mask.sequence_number = true;
  auto masked = rig.unary<spire_api_types_Bundle>("bundle.v1.Bundle", "GetBundle", rig.remote(), get);
  EXPECT_EQ((*masked)->x509_authorities_count, 0);
  EXPECT_EQ((*masked)->sequence_number, 1u);

  using Append = spire_api_server_bundle_v1_AppendBundleRequest;
  wire::Message<Append> append;
  auto send = [&] {
    return rig.unary<spire_api_types_Bundle>("bundle.v1.Bundle", "AppendBundle", rig.local(), append);
  };
  EXPECT_EQ(send().error().message, "no authorities to append");
  auto* roots = wire::set_array(append->x509_authorities, append->x509_authorities_count, 1);
  wire::set_bytes(roots[0].asn1, to_bytes("x"));
  EXPECT_EQ(send().error().code, Code::invalid_argument);
  wire::set_bytes(roots[0].asn1, rig.certificate("spiffe://example.org"));
  auto appended = send();
  ASSERT_TRUE(appended) << appended.error().text();
  EXPECT_EQ((*appended)->x509_authorities_count, 2);
  EXPECT_EQ((*appended)->sequence_number, 2u);
  EXPECT_EQ((*send())->sequence_number, 2u);  // nothing new: nothing changed
  wire::Message<spire_api_server_bundle_v1_CountBundlesRequest> count;
  auto counted = rig.unary<spire_api_server_bundle_v1_CountBundlesResponse>("bundle.v1.Bundle", "CountBundles",
                                                                            rig.local(), count);
  EXPECT_EQ((*counted)->count, 1);
}

TEST(Debug, TellsWhatTheServerHoldsAtMostEveryFiveSeconds) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  wire::Message<spire_api_server_debug_v1_GetInfoRequest> request;
  using Response = spire_api_server_debug_v1_GetInfoResponse;
  auto ask = [&] { return std::move(*rig.unary<Response>("debug.v1.Debug", "GetInfo", rig.local(), request)); };
  auto before = ask();
  ASSERT_EQ(before->svid_chain_count, 2);
  EXPECT_EQ(wire::view(before->svid_chain[0].id.path), "/spire/server");
  EXPECT_EQ(before->entries_count, 0);
  EXPECT_EQ(before->federated_bundles_count, 1);
  rig.put_entry(rig.entry("e", "/host", "/web"));
  EXPECT_EQ(ask()->entries_count, 0);
  rig.pass(6);
  auto after = ask();
  EXPECT_EQ(after->entries_count, 1);
  EXPECT_GE(after->uptime, 6);
}

TEST(Pruner, RemovesExpiredEntriesAndTokens) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  Entry expiring = rig.entry("short", "/host", "/short");
  expiring.expires_at = kStart + 60;
  rig.put_entry(expiring);
  rig.put_entry(rig.entry("long", "/host", "/long"));
  rig.pass(299);
  EXPECT_EQ(rig.core->index().size(), 2u);
  rig.pass(10);
  EXPECT_EQ(rig.core->index().size(), 1u);
}

}  // namespace
}  // namespace limpet::server::test
