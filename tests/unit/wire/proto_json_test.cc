// SPDX-License-Identifier: Apache-2.0
#include "wire/proto_json.h"

#include <gtest/gtest.h>

#include "proto/spire_agent.pb.h"
#include "proto/spire_entry.pb.h"
#include "proto/spire_localauthority.pb.h"
#include "proto/spire_logger.pb.h"
#include "proto/spire_trustdomain.pb.h"
#include "proto/workload.pb.h"

namespace limpet::wire {
namespace {

// The lines below are what SPIRE's commands print.
TEST(ProtoJson, AnEntryIsPrintedAsSpireDoes) {
  Message<spire_api_server_entry_v1_BatchCreateEntryResponse> response;
  auto* result = set_array(response->results, response->results_count, 1);
  result->has_status = true;
  set_string(result->status.message, "OK");
  result->has_entry = true;
  auto& entry = result->entry;
  set_string(entry.id, "b2c667ab-256e-4c8f-acb8-10b65507cc73");
  entry.created_at = 1795312835;
  entry.has_parent_id = entry.has_spiffe_id = true;
  set_string(entry.parent_id.trust_domain, "example.org");
  set_string(entry.parent_id.path, "/host");
  set_string(entry.spiffe_id.trust_domain, "example.org");
  set_string(entry.spiffe_id.path, "/db");
  auto* selector = set_array(entry.selectors, entry.selectors_count, 1);
  set_string(selector->type, "unix");
  set_string(selector->value, "uid:1001");
  EXPECT_EQ(
      to_json(response),
      R"({"results":[{"entry":{"admin":false,"created_at":"1795312835","dns_names":[],"downstream":false,)"
      R"("expires_at":"0","federates_with":[],"hint":"","id":"b2c667ab-256e-4c8f-acb8-10b65507cc73",)"
      R"("jwt_svid_ttl":0,"parent_id":{"path":"/host","trust_domain":"example.org"},"revision_number":"0",)"
      R"("selectors":[{"type":"unix","value":"uid:1001"}],"spiffe_id":{"path":"/db","trust_domain":"example.org"},)"
      R"("store_svid":false,"x509_svid_ttl":0},"status":{"code":0,"message":"OK"}}]})");
  entry.has_additional_attributes = true;
  EXPECT_EQ(to_json(entry.additional_attributes),
            R"({"disable_x509_svid_prefetch":false,"jwt_svid_include_jti":false})");
}

TEST(ProtoJson, AJoinTokenAndCountsAreCompact) {
  Message<spire_api_types_JoinToken> token;
  set_string(token->value, "9c6b3295-7039-45fd-a8e8-e8a5f3945cde");
  token->expires_at = 1795313434;
  EXPECT_EQ(to_json(token), R"({"expires_at":"1795313434","value":"9c6b3295-7039-45fd-a8e8-e8a5f3945cde"})");
  Message<spire_api_server_agent_v1_CountAgentsResponse> count;
  count->count = 6;
  EXPECT_EQ(to_json(count), R"({"count":6})");
}

TEST(ProtoJson, AOneofPrintsItsSetMemberOnly) {
  Message<spire_api_server_trustdomain_v1_ListFederationRelationshipsResponse> list;
  auto* r = set_array(list->federation_relationships, list->federation_relationships_count, 1);
  set_string(r->bundle_endpoint_url, "https://127.0.0.1:9/");
  set_string(r->trust_domain, "fed2.example");
  r->which_bundle_endpoint_profile = spire_api_types_FederationRelationship_https_spiffe_tag;
  set_string(r->bundle_endpoint_profile.https_spiffe.endpoint_spiffe_id, "spiffe://fed2.example/spire/server");
  EXPECT_EQ(to_json(list),
            R"({"federation_relationships":[{"bundle_endpoint_url":"https://127.0.0.1:9/","https_spiffe":)"
            R"({"endpoint_spiffe_id":"spiffe://fed2.example/spire/server"},"trust_domain":"fed2.example"}],)"
            R"("next_page_token":""})");
}

TEST(ProtoJson, AbsentSubMessagesAreLeftOut) {
  Message<spire_api_server_localauthority_v1_GetX509AuthorityStateResponse> state;
  state->has_active = true;
  set_string(state->active.authority_id, "306a51fa");
  state->active.expires_at = 1795399229;
  EXPECT_EQ(
      to_json(state),
      R"({"active":{"authority_id":"306a51fa","expires_at":"1795399229","upstream_authority_subject_key_id":""}})");
}

TEST(ProtoJson, MapsAreObjectsSortedByKeyAndBytesAreBase64) {
  Message<X509SVIDResponse> response;
  EXPECT_EQ(to_json(response), R"({"crl":[],"federated_bundles":{},"svids":[]})");
  auto* bundle = set_array(response->federated_bundles, response->federated_bundles_count, 2);
  set_string(bundle[0].key, "spiffe://b");
  set_bytes(bundle[0].value, as_bytes("bb"));
  set_string(bundle[1].key, "spiffe://a");
  auto* svid = set_array(response->svids, response->svids_count, 1);
  set_string(svid->spiffe_id, "spiffe://example.org/root");
  set_bytes(svid->x509_svid, Bytes{0xfb, 0xff});
  set_bytes(svid->x509_svid_key, Bytes{1});
  EXPECT_EQ(to_json(response),
            R"({"crl":[],"federated_bundles":{"spiffe://a":"","spiffe://b":"YmI="},"svids":[{"bundle":"","hint":"",)"
            R"("spiffe_id":"spiffe://example.org/root","x509_svid":"+/8=","x509_svid_key":"AQ=="}]})");
}

TEST(ProtoJson, EnumsArePrintedByName) {
  Message<spire_api_types_Logger> logger;
  logger->current_level = spire_api_types_LogLevel_INFO;
  EXPECT_EQ(to_json(logger), R"({"current_level":"INFO","launch_level":"UNSPECIFIED"})");
  logger->current_level = static_cast<spire_api_types_LogLevel>(42);
  EXPECT_EQ(to_json(logger), R"({"current_level":42,"launch_level":"UNSPECIFIED"})");
}

TEST(ProtoJson, StringsAreEscapedAsGoEscapesThem) {
  Message<spire_api_types_JoinToken> token;
  set_string(token->value, "a\"\\\n\t\x01<&>\xe2\x80\xa8\xc3\xa9");
  EXPECT_EQ(to_json(token),
            "{\"expires_at\":\"0\",\"value\":\"a\\\"\\\\\\n\\t\\u0001\\u003c\\u0026\\u003e\\u2028\xc3\xa9\"}");
}

TEST(ProtoJson, ClaimsAreTheJsonTheyStandFor) {
  Message<ValidateJWTSVIDResponse> response;
  response->has_claims = true;
  auto* field = set_array(response->claims.fields, response->claims.fields_count, 4);
  const char* keys[] = {"sub", "aud", "exp", "no"};
  for (int i = 0; i < 4; ++i) {
    set_string(field[i].key, keys[i]);
    field[i].has_value = true;
  }
  field[0].value.which_kind = google_protobuf_Value_string_value_tag;
  set_string(field[0].value.kind.string_value, "spiffe://a/b");
  field[1].value.which_kind = google_protobuf_Value_list_value_tag;
  auto& list = field[1].value.kind.list_value;
  set_array(list.values, list.values_count, 1);
  list.values[0].which_kind = google_protobuf_Value_bool_value_tag;
  list.values[0].kind.bool_value = true;
  field[2].value.which_kind = google_protobuf_Value_number_value_tag;
  field[2].value.kind.number_value = 1795671350;  // its shortest %g is 1.79567135e+09
  EXPECT_EQ(to_json(response),
            R"({"claims":{"aud":[true],"exp":1795671350,"no":null,"sub":"spiffe://a/b"},"spiffe_id":""})");
}

}  // namespace
}  // namespace limpet::wire
