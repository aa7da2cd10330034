// SPDX-License-Identifier: Apache-2.0
#include "report/metrics.h"

#include <gtest/gtest.h>

#include "base/limits.h"

namespace limpet {
namespace {

class MetricsTest : public testing::Test {
 protected:
  bool has(const std::string& line) { return ("\n" + metrics_.text()).find("\n" + line + "\n") != std::string::npos; }
  FakeClock clock_{1'700'000'000};
  Metrics metrics_{{"spire_server", {{"host", "edge-1"}}}, &clock_};
};

TEST_F(MetricsTest, ACounterGrowsAndEachSetOfLabelsHasItsOwn) {
  metrics_.count("server_ca_sign_x509_svid");
  metrics_.count("server_ca_sign_x509_svid", {}, 2);
  metrics_.count("bundle_manager_update_federated_bundle", {{"trust_domain_id", "a.test"}});
  metrics_.count("bundle_manager_update_federated_bundle", {{"trust_domain_id", "b.test"}});
  EXPECT_TRUE(has("# TYPE spire_server_server_ca_sign_x509_svid counter"));
  EXPECT_TRUE(has("spire_server_server_ca_sign_x509_svid{host=\"edge-1\"} 3"));
  EXPECT_TRUE(has("spire_server_bundle_manager_update_federated_bundle{trust_domain_id=\"a.test\",host=\"edge-1\"} 1"));
  EXPECT_TRUE(has("spire_server_bundle_manager_update_federated_bundle{trust_domain_id=\"b.test\",host=\"edge-1\"} 1"));
}

TEST_F(MetricsTest, ACallIsCountedByItsStatusWithItsTime) {
  metrics_.call("svid_rotate", Code::ok, 10);
  metrics_.call("svid_rotate", Code::ok, 30);
  metrics_.call("svid_rotate", Code::unavailable, 5);
  EXPECT_TRUE(has("spire_server_svid_rotate{status=\"OK\",host=\"edge-1\"} 2"));
  EXPECT_TRUE(has("spire_server_svid_rotate{status=\"Unavailable\",host=\"edge-1\"} 1"));
  EXPECT_TRUE(has("# TYPE spire_server_svid_rotate_elapsed_time summary"));
  EXPECT_TRUE(has("spire_server_svid_rotate_elapsed_time{status=\"OK\",host=\"edge-1\",quantile=\"0.5\"} 10"));
  EXPECT_TRUE(has("spire_server_svid_rotate_elapsed_time{status=\"OK\",host=\"edge-1\",quantile=\"0.99\"} 30"));
  EXPECT_TRUE(has("spire_server_svid_rotate_elapsed_time_sum{status=\"OK\",host=\"edge-1\"} 40"));
  EXPECT_TRUE(has("spire_server_svid_rotate_elapsed_time_count{status=\"OK\",host=\"edge-1\"} 2"));
}

TEST_F(MetricsTest, QuantilesAreOfTheLastMinuteAndSumsForEver) {
  metrics_.sample("cache_manager_expiring_svids", 7);
  clock_.advance_ms(61'000);
  EXPECT_TRUE(has("spire_server_cache_manager_expiring_svids{host=\"edge-1\",quantile=\"0.5\"} NaN"));
  EXPECT_TRUE(has("spire_server_cache_manager_expiring_svids_sum{host=\"edge-1\"} 7"));
  for (int i = 1; i <= 1000; ++i) metrics_.sample("cache_manager_expiring_svids", i);
  EXPECT_TRUE(has("spire_server_cache_manager_expiring_svids_count{host=\"edge-1\"} 1001"));
  EXPECT_TRUE(has("spire_server_cache_manager_expiring_svids{host=\"edge-1\",quantile=\"0.99\"} 1000"));
}

TEST_F(MetricsTest, AGaugeIsLookedUpWhenSomebodyAsks) {
  int entries = 3;
  metrics_.before_text([&entries](Metrics& m) { m.gauge("entry_entries_by_entryid_cache_count", entries); });
  EXPECT_TRUE(has("spire_server_entry_entries_by_entryid_cache_count{host=\"edge-1\"} 3"));
  entries = 4;
  EXPECT_TRUE(has("spire_server_entry_entries_by_entryid_cache_count{host=\"edge-1\"} 4"));
}

TEST_F(MetricsTest, LabelValuesAreEscapedAndBounded) {
  metrics_.count("a", {{"x", "quote\" back\\slash\nline"}});
  metrics_.count("b", {{"x", "\xff"}});
  metrics_.count("c", {{"x", std::string(10'000, 'l')}});
  EXPECT_TRUE(has("spire_server_a{x=\"quote\\\" back\\\\slash\\nline\",host=\"edge-1\"} 1"));
  EXPECT_TRUE(has("spire_server_b{x=\"(not UTF-8)\",host=\"edge-1\"} 1"));
  EXPECT_LT(metrics_.text().size(), 2'000u);
}

TEST_F(MetricsTest, TheNumberOfSeriesIsBoundedAndWhatIsRefusedIsTold) {
  for (size_t i = 0; i < limits::kMetricSeries + 10; ++i) metrics_.count("a", {{"x", std::to_string(i)}});
  metrics_.count("a", {{"x", "0"}});  // what is known goes on
  EXPECT_TRUE(has("spire_server_a{x=\"0\",host=\"edge-1\"} 2"));
  EXPECT_FALSE(has("spire_server_a{x=\"2001\",host=\"edge-1\"} 1"));
  EXPECT_TRUE(has("spire_server_metrics_refused_series 10"));
}

TEST_F(MetricsTest, OneNameIsOneKindOfThing) {
  metrics_.gauge("connections", 1);
  metrics_.count("connections");
  EXPECT_TRUE(has("spire_server_connections{host=\"edge-1\"} 1"));
  EXPECT_FALSE(has("# TYPE spire_server_connections counter"));
}

TEST(MetricsOff, NothingIsKept) {
  Metrics::none().count("a");
  Metrics::none().call("b", Code::ok, 1);
  Metrics::none().sample("c", 1);
  EXPECT_EQ(Metrics::none().text(), "");
}

TEST(RpcMetric, NamesAreSpires) {
  EXPECT_EQ(rpc_metric("/spire.api.server.agent.v1.Agent/AttestAgent"), "rpc_agent_v1_agent_attest_agent");
  EXPECT_EQ(rpc_metric("/spire.api.server.svid.v1.SVID/BatchNewX509SVID"), "rpc_svid_v1_svid_batch_new_x509svid");
  EXPECT_EQ(rpc_metric("/spire.api.server.svid.v1.SVID/NewJWTSVID"), "rpc_svid_v1_svid_new_jwtsvid");
  EXPECT_EQ(rpc_metric("/spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState"),
            "rpc_localauthority_v1_local_authority_get_x509_authority_state");
  EXPECT_EQ(rpc_metric("/SpiffeWorkloadAPI/FetchX509SVID"), "rpc_workload_api_fetch_x509svid");
  EXPECT_EQ(rpc_metric("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"), "rpc_sds_v3_stream_secrets");
  EXPECT_EQ(rpc_metric("/grpc.health.v1.Health/Check"), "rpc_health_check");
  EXPECT_EQ(rpc_metric("/spire.api.agent.debug.v1.Debug/GetInfo"), "rpc_spire_api_agent_debug_v1_debug_get_info");
  EXPECT_EQ(rpc_metric("nonsense"), "rpc_nonsense");
  EXPECT_EQ(rpc_metric(""), "rpc_");
}

}  // namespace
}  // namespace limpet
