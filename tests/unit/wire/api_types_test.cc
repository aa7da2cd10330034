// SPDX-License-Identifier: Apache-2.0
#include "wire/api_types.h"

#include <gtest/gtest.h>

#include "proto/spire_entry.pb.h"

namespace limpet::wire {
namespace {

using WireEntry = spire_api_types_Entry;
using WireMask = spire_api_types_EntryMask;

SpiffeId id(std::string_view text) { return *SpiffeId::parse(text); }

Entry full_entry() {
  Entry e;
  e.id = "web-1";
  e.spiffe_id = id("spiffe://example.org/web");
  e.parent_id = id("spiffe://example.org/host");
  e.selectors = {{"unix", "gid:1"}, {"unix", "uid:1"}};
  e.x509_svid_ttl = 60;
  e.jwt_svid_ttl = 30;
  e.federates_with = {"b.example", "a.example"};
  e.admin = true;
  e.downstream = true;
  e.expires_at = 5;
  e.dns_names = {"web", ""};
  e.revision_number = 7;
  e.hint = "internal";
  e.created_at = 9;
  e.has_additional_attributes = true;
  e.jwt_svid_include_jti = true;
  return e;
}

TEST(WireTypes, AnEntryComesBackThroughBytes) {
  Message<WireEntry> sent;
  write_entry(*sent, full_entry());
  const auto bytes = sent.encode();
  ASSERT_TRUE(bytes);
  const auto received = Message<WireEntry>::decode(*bytes);
  ASSERT_TRUE(received) << received.error().text();
  const auto back = read_entry(**received);
  ASSERT_TRUE(back) << back.error().text();
  const Entry want = full_entry();
  EXPECT_EQ(back->id, want.id);
  EXPECT_EQ(back->spiffe_id, want.spiffe_id);
  EXPECT_EQ(back->parent_id, want.parent_id);
  EXPECT_EQ(back->selectors, want.selectors);
  EXPECT_EQ(back->x509_svid_ttl, 60);
  EXPECT_EQ(back->jwt_svid_ttl, 30);
  EXPECT_EQ(back->federates_with, want.federates_with);
  EXPECT_TRUE(back->admin && back->downstream && !back->store_svid);
  EXPECT_EQ(back->expires_at, 5);
  EXPECT_EQ(back->dns_names, want.dns_names);
  EXPECT_EQ(back->revision_number, 7);
  EXPECT_EQ(back->hint, "internal");
  EXPECT_EQ(back->created_at, 9);
  EXPECT_TRUE(back->has_additional_attributes && back->jwt_svid_include_jti && !back->disable_x509_svid_prefetch);
}

TEST(WireTypes, AMaskLeavesOutWhatItDoesNotName) {
  WireMask mask = {};
  mask.spiffe_id = true;
  mask.revision_number = true;
  Message<WireEntry> sent;
  write_entry(*sent, full_entry(), &mask);
  EXPECT_EQ(view(sent->id), "web-1");  // always
  EXPECT_TRUE(sent->has_spiffe_id);
  EXPECT_FALSE(sent->has_parent_id);
  EXPECT_EQ(sent->selectors_count, 0);
  EXPECT_EQ(sent->revision_number, 7);
  EXPECT_EQ(sent->hint, nullptr);
  EXPECT_FALSE(sent->has_additional_attributes || sent->admin);

  Message<WireEntry> all;
  write_entry(*all, full_entry());
  const auto read = read_entry(*all, &mask);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->revision_number, 7);
  EXPECT_TRUE(read->selectors.empty() && read->hint.empty() && read->parent_id.empty());
}

TEST(WireTypes, BadIdsInAnEntryAreNamed) {
  Message<WireEntry> entry;
  entry->has_parent_id = true;
  set_string(entry->parent_id.trust_domain, "Bad Domain");
  auto read = read_entry(*entry);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message.find("invalid parent ID: "), 0u) << read.error().message;
  entry->has_parent_id = false;
  entry->has_spiffe_id = true;
  set_string(entry->spiffe_id.trust_domain, "example.org");
  set_string(entry->spiffe_id.path, "/a//b");
  read = read_entry(*entry);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message, "invalid spiffe ID: path cannot contain empty segments");
}

TEST(WireTypes, SelectorsOfAFilterAreChecked) {
  struct Case {
    const char* type;
    const char* value;
    const char* reason;
  };
  for (const Case& c : {Case{"", "v", "missing selector type"}, Case{"a:b", "v", "selector type contains ':'"},
                        Case{"t", "", "missing selector value"}}) {
    Message<WireEntry> entry;
    auto* selector = set_array(entry->selectors, entry->selectors_count, 1);
    set_string(selector->type, c.type);
    set_string(selector->value, c.value);
    const auto read = read_selectors(entry->selectors, entry->selectors_count);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().message, c.reason);
  }
}

TEST(WireTypes, AnAbsentIdIsRefused) {
  const auto read = read_id(false, {});
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message, "request must specify SPIFFE ID");
}

TEST(WireTypes, ADamagedBundleIsRefusedWithItsPart) {
  Message<spire_api_types_Bundle> bundle;
  auto read = read_bundle(*bundle);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message.find("invalid trust domain: "), 0u);
  set_string(bundle->trust_domain, "example.org");
  ASSERT_TRUE(read_bundle(*bundle));
  set_array(bundle->x509_authorities, bundle->x509_authorities_count, 1);
  read = read_bundle(*bundle);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message.find("unable to parse X.509 authority: "), 0u) << read.error().message;
  set_bytes(bundle->x509_authorities[0].asn1, as_bytes("not a certificate"));
  EXPECT_FALSE(read_bundle(*bundle));
  spire_api_types_BundleMask mask = {};
  mask.sequence_number = true;
  bundle->sequence_number = 4;
  read = read_bundle(*bundle, &mask);  // what the mask does not name is not read
  ASSERT_TRUE(read);
  EXPECT_EQ(read->sequence_number, 4u);
}

TEST(WireTypes, ABundleIsWrittenByItsMask) {
  Bundle bundle;
  bundle.trust_domain = *TrustDomain::parse("example.org");
  bundle.x509_authorities = {{Bytes{1, 2}, true}};
  bundle.jwt_authorities = {{"kid", Bytes{3}, 11, false}};
  bundle.refresh_hint = 300;
  bundle.sequence_number = 2;
  Message<spire_api_types_Bundle> all;
  write_bundle(*all, bundle);
  EXPECT_EQ(all->x509_authorities_count, 1);
  EXPECT_TRUE(all->x509_authorities[0].tainted);
  EXPECT_EQ(view(all->jwt_authorities[0].key_id), "kid");
  EXPECT_EQ(all->jwt_authorities[0].expires_at, 11);
  EXPECT_EQ(all->refresh_hint, 300);
  spire_api_types_BundleMask none = {};
  Message<spire_api_types_Bundle> least;
  write_bundle(*least, bundle, &none);
  EXPECT_EQ(view(least->trust_domain), "example.org");
  EXPECT_EQ(least->x509_authorities_count + least->jwt_authorities_count + least->refresh_hint, 0);
}

TEST(WireTypes, StatusesAreTheCodesOfTheWireAndAbsentMeansOk) {
  Message<spire_api_server_entry_v1_BatchDeleteEntryResponse_Result> result;
  EXPECT_TRUE(read_status(result->has_status, result->status));
  write_error(result->has_status, result->status, Error{Code::not_found, "entry not found"});
  const auto read = read_status(result->has_status, result->status);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::not_found);
  EXPECT_EQ(read.error().message, "entry not found");
  write_ok(result->has_status, result->status);
  EXPECT_EQ(view(result->status.message), "OK");
  EXPECT_TRUE(read_status(result->has_status, result->status));
}

TEST(WireTypes, SvidsAndAgentsComeBack) {
  X509Svid svid{{Bytes{1}, Bytes{2, 3}}, id("spiffe://example.org/a"), 99, "h"};
  Message<spire_api_types_X509SVID> wire;
  EXPECT_FALSE(read_x509_svid(*wire));
  write_x509_svid(*wire, svid);
  const auto back = read_x509_svid(*wire);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->chain, svid.chain);
  EXPECT_EQ(back->id, svid.id);
  EXPECT_EQ(back->expires_at, 99);

  Message<spire_api_types_Agent> agent;
  AgentRecord record{.id = id("spiffe://example.org/spire/agent/x"),
                     .attestation_type = "join_token",
                     .serial_number = "12",
                     .expires_at = 5,
                     .selectors = {{"a", "b"}},
                     .banned = true,
                     .version = "1"};
  spire_api_types_AgentMask mask = {};
  mask.banned = true;
  write_agent(*agent, record, &mask);
  EXPECT_TRUE(agent->banned && agent->has_id);
  EXPECT_EQ(agent->selectors_count, 0);
  EXPECT_EQ(agent->agent_version, nullptr);
}

}  // namespace
}  // namespace limpet::wire
