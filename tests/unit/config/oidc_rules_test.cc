// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "config/config.h"
#include "config/keys.h"

namespace limpet {
namespace {

Result<Config> parse(const std::string& table, const std::string& server = "") {
  return parse_config(
      "[server]\ntrust_domain = \"example.org\"\ndata_dir = \"/d\"\n" + server + "\n[server.oidc_discovery]\n" + table,
      "c.toml");
}
constexpr const char* kGood = "domains = [\"a.example\"]\nsocket_path = \"/s\"\n";

TEST(OidcDiscoveryConfig, IsOffUnlessItHasSomewhereToListen) {
  const auto config = parse("set_key_use = true\n");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_FALSE(config->server->oidc_discovery.enabled());
  EXPECT_TRUE(config->server->oidc_discovery.set_key_use);
  EXPECT_TRUE(parse(kGood)->server->oidc_discovery.enabled());
}

TEST(OidcDiscoveryConfig, IsPrintedAsItWasRead) {
  const auto config = parse(
      "domains = [\"a.example\", \"[::1]\", \"10.0.0.1\"]\nbind_address = \"127.0.0.1\"\nbind_port = 8443\n"
      "cert_file_path = \"/c\"\nkey_file_path = \"/k\"\nfile_sync_interval = \"2m\"\nserver_path_prefix = \"/x/y\"\n"
      "jwks_uri = \"https://b.example/keys\"\n");
  ASSERT_TRUE(config) << config.error().message;
  const auto again = parse_config(config_to_toml(*config), "again.toml");
  ASSERT_TRUE(again) << again.error().message;
  const OidcDiscoveryConfig& c = again->server->oidc_discovery;
  EXPECT_EQ(c.domains.size(), 3u);
  EXPECT_EQ(c.bind_port, 8443);
  EXPECT_EQ(c.file_sync_interval_s, 120);
  EXPECT_EQ(c.server_path_prefix, "/x/y");
  EXPECT_EQ(c.jwks_uri, "https://b.example/keys");
}

TEST(OidcDiscoveryConfig, TheDefaultsArePrintedAsSomethingThatIsValid) {
  const auto config = parse("");
  ASSERT_TRUE(config);
  EXPECT_TRUE(parse_config(config_to_toml(*config), "again.toml"));
}

TEST(OidcDiscoveryConfig, WithoutTlsItStaysOnThisHost) {
  const std::string one = "domains = [\"a.example\"]\nbind_port = 80\nbind_address = ";
  for (const char* here : {"127.0.0.1", "127.9.9.9", "::1", "localhost"})
    EXPECT_TRUE(parse(one + "\"" + here + "\"\n"));
  for (const char* there : {"0.0.0.0", "::", "10.0.0.1", "host.example", ""}) {
    const auto config = parse(one + "\"" + there + "\"\n");
    ASSERT_FALSE(config) << there;
    EXPECT_NE(config.error().message.find("without a certificate"), std::string::npos);
  }
}

TEST(OidcDiscoveryConfig, MistakesAreNamedWithTheirKey) {
  const auto refused = [](const std::string& table, const std::string& what, const std::string& server = "") {
    const auto config = parse(table, server);
    ASSERT_FALSE(config) << table;
    EXPECT_NE(config.error().message.find(what), std::string::npos) << config.error().message;
  };
  const std::string good = kGood;
  refused("domains = [\"a\"]\n", "nowhere to listen");
  refused("socket_path = \"/s\"\n", "\"domains\" is required");
  refused("socket_path = \"/s\"\ndomains = []\n", "\"domains\" is required");
  refused(good + "bind_port = 1\n", "exclude each other");
  refused(good + "cert_file_path = \"/c\"\nkey_file_path = \"/k\"\n", "served as plain HTTP");
  refused(good + "cert_file_path = \"/c\"\n", "belong together");
  refused(good + "key_file_path = \"/k\"\n", "belong together");
  for (const char* prefix : {"x", "/", "/x/", "/a b", "/\\\"", "/a?b", "/a#b", "/\\u00e9"})
    refused(good + "server_path_prefix = \"" + prefix + "\"\n", "\"server_path_prefix\" is");
  for (const char* url : {"x", "http://a", "https://", "https:///a", "https://u@a/", "https://a/ b", "https://a/\\\""})
    refused(good + "jwks_uri = \"" + url + "\"\n", "\"jwks_uri\" is");
  refused(good, "\"jwt_issuer\" is \"me\"", "jwt_issuer = \"me\"");
  refused(good, "has no keys to show", "disable_jwt_svids = true");
  refused("domains = [\"a\"]\nsocket_path = \"/" + std::string(200, 's') + "\"\n", "is longer than");
  for (const char* domain :
       {"", ".", "a.", ".a", "a..b", "a:1", "a/b", "a b", "*.a", "[]", "[::1", "https://a", "\\u00e9"})
    refused("socket_path = \"/s\"\ndomains = [\"" + std::string(domain) + "\"]\n", "is not a host name");
}

TEST(OidcDiscoveryConfig, HttpAddressesWhereTheyAreAllowed) {
  const std::string good = std::string(kGood) + "allow_insecure_scheme = true\n";
  EXPECT_TRUE(parse(good + "jwks_uri = \"http://a:80/keys\"\n", "jwt_issuer = \"http://a\""));
  EXPECT_FALSE(parse(good + "jwks_uri = \"ftp://a/\"\n"));
}

TEST(OidcDiscoveryConfig, AnIssuerMayBeAnythingWithoutDiscovery) { EXPECT_TRUE(parse("", "jwt_issuer = \"me\"")); }

}  // namespace
}  // namespace limpet
