// SPDX-License-Identifier: Apache-2.0
#include "config/federation.h"

#include <gtest/gtest.h>

#include "config/config.h"

namespace limpet {
namespace {

std::string server(const std::string& more) {
  return "[server]\ntrust_domain = \"example.org\"\ndata_dir = \"/d\"\n" + more;
}
std::string endpoint(const std::string& more) { return server("[server.federation.bundle_endpoint]\n" + more); }
std::string with(const std::string& more) {
  return server("[server.federation.federates_with.\"other.org\"]\n" + more);
}
constexpr const char* kSpiffe = "[server.federation.bundle_endpoint.profile.https_spiffe]\n";

TEST(FederationConfig, AnEndpointWithItsDefaults) {
  const auto config = parse_config(server(kSpiffe), "c.toml");
  ASSERT_TRUE(config) << config.error().message;
  const auto& bundle_endpoint = config->server->federation.bundle_endpoint;
  ASSERT_TRUE(bundle_endpoint);
  EXPECT_EQ(bundle_endpoint->address, "0.0.0.0");
  EXPECT_EQ(bundle_endpoint->port, 443);
  EXPECT_EQ(bundle_endpoint->refresh_hint_s, 300);
  EXPECT_EQ(bundle_endpoint->profile, "https_spiffe");
  EXPECT_FALSE(parse_config(server(""), "c.toml")->server->federation.bundle_endpoint);
}

constexpr const char* kWhole = R"(
[server.federation.bundle_endpoint]
address = "127.0.0.1"
port = 8443
refresh_hint = "10m"
[server.federation.bundle_endpoint.profile.https_web.serving_cert_file]
cert_file_path = "/c"
key_file_path = "/k"
file_sync_interval = "2m"
[server.federation.federates_with."a.org"]
bundle_endpoint_url = "https://a.org:8443/x"
bundle_endpoint_profile = { https_web = {} }
[server.federation.federates_with."spiffe://b.org"]
bundle_endpoint_url = "https://b.org"
[server.federation.federates_with."spiffe://b.org".bundle_endpoint_profile.https_spiffe]
endpoint_spiffe_id = "spiffe://b.org/spire/server"
)";

void expect_whole(const FederationConfig& federation) {
  ASSERT_TRUE(federation.bundle_endpoint);
  EXPECT_EQ(federation.bundle_endpoint->port, 8443);
  EXPECT_EQ(federation.bundle_endpoint->refresh_hint_s, 600);
  EXPECT_EQ(federation.bundle_endpoint->profile, "https_web");
  EXPECT_EQ(federation.bundle_endpoint->cert_file_path, "/c");
  EXPECT_EQ(federation.bundle_endpoint->key_file_path, "/k");
  EXPECT_EQ(federation.bundle_endpoint->file_sync_interval_s, 120);
  ASSERT_EQ(federation.federates_with.size(), 2u);
  EXPECT_EQ(federation.federates_with[0].trust_domain, "a.org");
  EXPECT_EQ(federation.federates_with[0].bundle_endpoint_url, "https://a.org:8443/x");
  EXPECT_EQ(federation.federates_with[0].profile, "https_web");
  EXPECT_EQ(federation.federates_with[1].trust_domain, "b.org");
  EXPECT_EQ(federation.federates_with[1].endpoint_spiffe_id, "spiffe://b.org/spire/server");
}

TEST(FederationConfig, TheEffectiveConfigurationSaysTheSame) {
  const auto config = parse_config(server(kWhole), "c.toml");
  ASSERT_TRUE(config) << config.error().message;
  expect_whole(config->server->federation);
  const std::string printed = config_to_toml(*config);
  const auto again = parse_config(printed, "again.toml");
  ASSERT_TRUE(again) << again.error().message << "\n" << printed;
  expect_whole(again->server->federation);
  EXPECT_EQ(config_to_toml(*again), printed);
}

TEST(FederationConfig, EveryMistakeNamesKeyAndPlace) {
  struct Bad {
    std::string toml;
    const char* message;
  };
  const Bad cases[] = {
      {server("federation = 3\n"), "c.toml:4:14: \"federation\" is an integer, a table is expected"},
      {server("federation = { bundle = {} }\n"), "c.toml:4:16: unknown key \"bundle\" in [server.federation]"},
      {endpoint("prot = 1\n"),
       "c.toml:5:1: unknown key \"prot\" in [server.federation.bundle_endpoint], did you mean \"port\"?"},
      {endpoint("port = 0\n"), "c.toml:5:1: \"port\" must be an integer from 1 to 65535"},
      {endpoint("port = 70000\n"), "c.toml:5:1: \"port\" must be"},
      {endpoint("port = \"8443\"\n"), "c.toml:5:1: \"port\" must be"},
      {endpoint("address = 1\n"), "c.toml:5:1: \"address\" must be a string"},
      {endpoint("refresh_hint = 300\n"), "c.toml:5:1: \"refresh_hint\" must be a duration such as"},
      {endpoint("refresh_hint = \"soon\"\n"), "c.toml:5:1: \"refresh_hint\": "},
      {endpoint("refresh_hint = \"0s\"\n"), "c.toml:5:1: \"refresh_hint\" is \"0s\"; it must be from 1s to"},
      {endpoint("refresh_hint = 1979-05-27\n"), "c.toml:5:16: no date, time or infinity is expected here"},
      {endpoint("port = 1\n"), "c.toml:4:20: \"profile\" is required in [server.federation.bundle_endpoint]"},
      {endpoint("profile = \"https_web\"\n"), "c.toml:5:1: \"profile\" must be a table"},
      {endpoint("profile = {}\n"), "c.toml:5:1: \"https_web\" or \"https_spiffe\" is required in"},
      {endpoint("profile = { https_wep = {} }\n"), "c.toml:5:13: unknown key \"https_wep\""},
      {endpoint("profile = { https_web = {}, https_spiffe = {} }\n"), "exclude each other: keep one"},
      {endpoint("profile = { https_web = {} }\n"), "c.toml:5:13: \"serving_cert_file\" with \"cert_file_path\""},
      {endpoint("profile = { https_web = { serving_cert_file = { cert_file_path = \"/c\" } } }\n"), "is required in"},
      {endpoint("profile = { https_web = { acme = {} } }\n"),
       "c.toml:5:27: \"acme\" is not supported: this server does not order certificates. Name a certificate and key"},
      {endpoint("acme = {}\n"), "c.toml:5:1: \"acme\" is not supported"},
      {endpoint("profile = { https_spiffe = { serving_cert_file = {} } }\n"), "unknown key \"serving_cert_file\""},
      {with("bundle_endpoint_url = \"http://other.org\"\n"),
       "c.toml:4:35: bundle endpoint URL must use the https scheme"},
      {with("bundle_endpoint_url = \"https://other.org\"\n"),
       "c.toml:4:35: \"bundle_endpoint_profile\" is required in"},
      {with("bundle_endpoint_profile = { https_spiffe = {} }\n"), "\"endpoint_spiffe_id\" is \"\": cannot be empty"},
      {with("bundle_endpoint_profile = { https_web = { endpoint_spiffe_id = \"spiffe://x/y\" } }\n"),
       "unknown key \"endpoint_spiffe_id\""},
      {server("[server.federation.federates_with.\"A b\"]\n"), "\"A b\" in \"federates_with\" is not a trust domain: "},
      {server("[server.federation.federates_with.\"example.org\"]\n"),
       "the server cannot federate with its own trust domain \"example.org\""},
  };
  for (const Bad& bad : cases) {
    const auto config = parse_config(bad.toml, "c.toml");
    ASSERT_FALSE(config) << bad.toml;
    EXPECT_NE(config.error().message.find(bad.message), std::string::npos)
        << bad.toml << "\nsaid: " << config.error().message;
  }
}

}  // namespace
}  // namespace limpet
