// SPDX-License-Identifier: Apache-2.0
#include "config/reload.h"

#include <gtest/gtest.h>

namespace limpet {
namespace {

ServerConfig server(const std::string& more) {
  auto config = parse_config("[server]\ntrust_domain = \"example.org\"\ndata_dir = \"/d\"\n" + more, "c.toml");
  EXPECT_TRUE(config) << config.error().message;
  return *config->server;
}

TEST(Reload, TheSameConfigurationChangesNothing) {
  ServerConfig running = server("");
  const ReloadedKeys keys = reload(running, server(""));
  EXPECT_TRUE(keys.taken.empty());
  EXPECT_TRUE(keys.refused.empty());
}

TEST(Reload, WhatMayChangeIsTakenAndTheRestNamed) {
  ServerConfig running = server("");
  const ReloadedKeys keys = reload(running, server("log_level = \"DEBUG\"\nadmin_ids = [\"spiffe://a/b\"]\n"
                                                   "default_jwt_svid_ttl = \"9m\"\nbind_port = 9000\nca_ttl = \"9h\"\n"
                                                   "ratelimit = { signing = false }\n"
                                                   "[server.telemetry.Prometheus]\nport = 1\n"));
  EXPECT_EQ(keys.taken,
            (std::vector<std::string>{"default_jwt_svid_ttl", "admin_ids", "ratelimit.signing", "log_level"}));
  EXPECT_EQ(keys.refused, (std::vector<std::string>{"bind_port", "ca_ttl", "telemetry.Prometheus.port"}));
  EXPECT_EQ(running.log.level, "DEBUG");
  EXPECT_EQ(running.admin_ids.size(), 1u);
  EXPECT_EQ(running.default_jwt_svid_ttl_s, 540);
  EXPECT_FALSE(running.ratelimit_signing);
  EXPECT_EQ(running.bind_port, 8081);
  EXPECT_EQ(running.ca_ttl_s, 24 * 3600);
}

TEST(Reload, RelationshipsChangeAndTheEndpointDoesNot) {
  const std::string relationship =
      "[server.federation.federates_with.\"partner.test\"]\nbundle_endpoint_url = \"https://partner.test\"\n"
      "bundle_endpoint_profile = { https_web = {} }\n";
  ServerConfig running = server("");
  const ReloadedKeys keys =
      reload(running, server(relationship + "[server.federation.bundle_endpoint]\nprofile = { https_spiffe = {} }\n"));
  EXPECT_EQ(keys.taken, (std::vector<std::string>{"federation.federates_with"}));
  EXPECT_EQ(keys.refused, (std::vector<std::string>{"federation.bundle_endpoint"}));
  EXPECT_EQ(running.federation.federates_with.size(), 1u);
  EXPECT_FALSE(running.federation.bundle_endpoint);
}

TEST(Reload, AnAgentTakesItsLevelAndItsInterval) {
  AgentConfig running;
  AgentConfig next;
  next.log.level = "TRACE";
  next.sync_interval_s = 60;
  next.server_port = 1;
  const ReloadedKeys keys = reload(running, next);
  EXPECT_EQ(keys.taken, (std::vector<std::string>{"experimental.sync_interval", "log_level"}));
  EXPECT_EQ(keys.refused, (std::vector<std::string>{"server_port"}));
  EXPECT_EQ(running.sync_interval_s, 60);
}

TEST(Reload, PluginsAreComparedWhole) {
  PluginConfig one;
  one.type = "KeyManager";
  one.name = "disk";
  PluginConfig other = one;
  other.line = 77;  // where it stands does not matter
  EXPECT_TRUE(same_plugins({one}, {other}));
  other.data_json = "{\"a\":1}";
  EXPECT_FALSE(same_plugins({one}, {other}));
  EXPECT_FALSE(same_plugins({one}, {}));
}

}  // namespace
}  // namespace limpet
