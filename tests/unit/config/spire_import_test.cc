// SPDX-License-Identifier: Apache-2.0
#include "config/spire_import.h"

#include <gtest/gtest.h>

#include "config/config.h"
#include "config/keys.h"
#include "config/spire_keys.h"

namespace limpet {
namespace {

constexpr const char* kServer = R"(# SPIRE's
server {
  bind_address = "127.0.0.1"
  bind_port = "8082"
  trust_domain = "example.org"
  data_dir = "/data"
  ca_subject {
    country = ["DE"]
    common_name = "us"
  }
  ca_ttl = "48h"
  profiling_port = 1
  ratelimit { signing = false }
  experimental { events_based_cache = true }
  federation {
    bundle_endpoint { port = 8443 profile "https_web" { acme { email = "x" } serving_cert_file {
      cert_file_path = "/c" key_file_path = "/k" } } }
    federates_with "partner.test" {
      bundle_endpoint_url = "https://partner.test:8443"
      bundle_endpoint_profile "https_spiffe" { endpoint_spiffe_id = "spiffe://partner.test/s" }
    }
  }
}
health_checks { listener_enabled = true bind_port = "8080" }
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" } }
  KeyManager "disk" { plugin_data { keys_path = "/data/keys \"1\".json" } }
  NodeAttestor "join_token" { plugin_data {} }
  NodeAttestor "aws_iid" { }
  NodeAttestor "mine" { plugin_cmd = "/bin/mine" }
}
)";

constexpr const char* kAgentJson = R"({
 "agent": {"server_address": "s", "server_port": 8081, "trust_domain": "example.org", "trust_bundle_path": "/b",
           "experimental": {"sync_interval": "30s", "nonsense": 1}},
 "plugins": {"KeyManager": [{"memory": [{"plugin_data": {}}]}],
             "WorkloadAttestor": [{"unix": {"enabled": "true", "plugin_data": {"discover_workload_path": true}}}]}
})";

// "a.b" and "c" -> "a { b { c } }"
std::string in_tables(std::string_view tables, const std::string& inner) {
  if (tables.empty()) return inner;
  const size_t dot = tables.rfind('.');
  const std::string last(tables.substr(dot == std::string_view::npos ? 0 : dot + 1));
  const std::string_view rest = dot == std::string_view::npos ? std::string_view() : tables.substr(0, dot);
  return in_tables(rest, last + " { " + inner + " }");
}

std::string notes_of(const ImportedConfig& imported) {
  std::string out;
  for (const ImportNote& note : imported.notes) {
    EXPECT_FALSE(note.reason.empty());
    out += std::to_string(note.line) + " " + note.key + "\n";
  }
  return out;
}

TEST(SpireImport, WhatHasACounterpartIsNotListedAsWithoutOne) {
  for (const SpireKey& row : spire_keys()) {
    for (const auto keys : {server_keys(), agent_keys()}) {
      if ((keys.data() == server_keys().data() ? row.role == "agent" : row.role == "server")) continue;
      for (const Key& key : keys)
        EXPECT_FALSE(key.table == row.table && (key.name == row.name || row.name == "*")) << row.name;
    }
  }
}

TEST(SpireImport, AServerFileBecomesAConfigurationThatIsTaken) {
  const auto imported = import_spire(kServer);
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  EXPECT_TRUE(imported->unknown.empty());
  const auto config = parse_config(imported->toml, "c.toml");
  ASSERT_TRUE(config.has_value()) << config.error().message << "\n" << imported->toml;
  ASSERT_TRUE(config->server.has_value());
  EXPECT_EQ(config->server->bind_port, 8082);
  EXPECT_EQ(config->server->ca_ttl_s, 48 * 3600);
  EXPECT_EQ(config->server->ca_subject_country, std::vector<std::string>{"DE"});
  EXPECT_EQ(config->server->ca_subject_common_name, "us");
  EXPECT_FALSE(config->server->ratelimit_signing);
  EXPECT_TRUE(config->server->health_checks.listener_enabled);
  EXPECT_EQ(config->server->health_checks.bind_port, 8080);
  ASSERT_TRUE(config->server->federation.bundle_endpoint.has_value());
  EXPECT_EQ(config->server->federation.bundle_endpoint->cert_file_path, "/c");
  ASSERT_EQ(config->server->federation.federates_with.size(), 1u);
  EXPECT_EQ(config->server->federation.federates_with[0].endpoint_spiffe_id, "spiffe://partner.test/s");
  ASSERT_EQ(config->plugins.size(), 2u);
  EXPECT_EQ(config->plugins[0].type + config->plugins[0].name + config->plugins[0].role, "KeyManagerdiskserver");
  EXPECT_EQ(config->plugins[0].data_json, R"({"keys_path":"/data/keys \"1\".json"})");
  EXPECT_EQ(notes_of(*imported),
            "12 server.profiling_port\n14 server.experimental.events_based_cache\n"
            "16 server.federation.bundle_endpoint.acme\n26 plugins.DataStore.sql\n29 plugins.NodeAttestor.aws_iid\n"
            "30 plugins.NodeAttestor.mine\n");
}

// Only the bundle endpoint has certificates to obtain.
TEST(SpireImport, ATrustDomainMayBeCalledAcme) {
  const auto imported = import_spire(R"(server { trust_domain = "example.org"
    federation { federates_with "acme" { bundle_endpoint_url = "https://acme/" bundle_endpoint_profile "https_web" {} } } })");
  ASSERT_TRUE(imported.has_value());
  EXPECT_EQ(notes_of(*imported), "");
  EXPECT_NE(imported->toml.find("\"acme\""), std::string::npos) << imported->toml;
}

TEST(SpireImport, PluginsThatAreNotBuiltInAreSaid) {
  const auto imported = import_spire(R"(agent { trust_domain = "example.org" }
plugins {
  WorkloadAttestor "docker" { plugin_data {} }
  WorkloadAttestor "systemd" { plugin_data {} }
  NodeAttestor "tpm_devid" { plugin_data {} }
})");
  ASSERT_TRUE(imported.has_value());
  EXPECT_EQ(
      notes_of(*imported),
      "3 plugins.WorkloadAttestor.docker\n4 plugins.WorkloadAttestor.systemd\n5 plugins.NodeAttestor.tpm_devid\n");
  EXPECT_EQ(imported->notes[1].reason, "it is not built in: add path and sha256 of workload_attestor_systemd.so");
  EXPECT_EQ(imported->toml.find("docker"), std::string::npos);
  EXPECT_NE(imported->toml.find("name = \"systemd\""), std::string::npos);
}

TEST(SpireImport, AnAgentFileInJsonBecomesAConfigurationThatIsTaken) {
  const auto imported = import_spire(kAgentJson);
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  const auto config = parse_config(imported->toml, "c.toml");
  ASSERT_TRUE(config.has_value()) << config.error().message << "\n" << imported->toml;
  ASSERT_TRUE(config->agent.has_value());
  EXPECT_EQ(config->agent->sync_interval_s, 30);
  ASSERT_EQ(config->plugins.size(), 2u);
  EXPECT_TRUE(config->plugins[1].enabled);
  EXPECT_EQ(config->plugins[1].data_json, R"({"discover_workload_path":true})");
  EXPECT_EQ(notes_of(*imported), "3 agent.experimental.nonsense\n");
  EXPECT_TRUE(imported->unknown.empty()) << "SPIRE passes over unknown keys of experimental";
}

TEST(SpireImport, KeysThatSpireDoesNotKnowAreToldApart) {
  const auto imported = import_spire("server { bogus_key = 1\n other = 2 }\nagent { x = 1 }\ntop {}\n");
  ASSERT_TRUE(imported.has_value());
  std::string all;
  for (const UnknownKeys& one : imported->unknown) all += one.section + "=" + one.keys + " ";
  EXPECT_EQ(all, "agent=x server=bogus_key,other top-level=top ");
}

TEST(SpireImport, WhatIsNotSpiresIsRefused) {
  EXPECT_FALSE(import_spire("").has_value());
  EXPECT_FALSE(import_spire("hello { }").has_value());
  EXPECT_FALSE(import_spire("server {").has_value());
}

TEST(SpireImport, AValueCannotBecomeMoreThanAValue) {
  const auto imported = import_spire(
      "server { trust_domain = \"a\\\"\\n[agent]\\n\" data_dir = \"/d\" }\nplugins { KeyManager \"x]\\n\" {} }");
  ASSERT_TRUE(imported.has_value());
  EXPECT_EQ(imported->toml.find("\n[agent]"), std::string::npos);
}

TEST(SpireImport, TelemetryBecomesTablesOfTheRole) {
  const auto imported = import_spire(
      "server { trust_domain = \"a\" data_dir = \"/d\" }\n"
      "telemetry { MetricPrefix = \"p\" Prometheus { host = \"::\" port = 9988 tls {} } Statsd = [{ address = \"x\" }] "
      "}");
  ASSERT_TRUE(imported.has_value());
  const auto config = parse_config(imported->toml, "imported");
  ASSERT_TRUE(config) << config.error().message << imported->toml;
  EXPECT_EQ(config->server->telemetry.prometheus_host, "::");
  EXPECT_EQ(config->server->telemetry.prometheus_port, 9988);
  EXPECT_EQ(config->server->telemetry.metric_prefix, "p");
  EXPECT_EQ(notes_of(*imported), "2 server.telemetry.Prometheus.tls\n2 server.telemetry.Statsd\n");
}

TEST(SpireImport, EachKeyOfTheTableIsImportedUnderItsName) {
  for (const char* role : {"server", "agent"}) {
    for (const Key& key : role == std::string("server") ? server_keys() : agent_keys()) {
      const std::string name(key.name);
      const std::string inner = in_tables(key.table, name + " = \"1\"");
      const auto imported = import_spire(role + (" { " + inner + " }"));
      ASSERT_TRUE(imported.has_value());
      EXPECT_NE(imported->toml.find(name + " = "), std::string::npos) << inner;
      EXPECT_TRUE(imported->notes.empty()) << inner;
    }
  }
}

TEST(SpireImport, EachKeyOfSpireWithoutACounterpartHasAReason) {
  for (const SpireKey& key : spire_keys()) {
    EXPECT_FALSE(key.reason.empty()) << key.name;
    if (key.name == "*" || key.role == "agent") continue;
    const std::string name(key.name);
    const std::string inner = in_tables(key.table, name + " = \"1\"");
    const auto imported = import_spire("server { " + inner + " }");
    ASSERT_TRUE(imported.has_value());
    EXPECT_TRUE(imported->unknown.empty()) << inner;
    EXPECT_NE(imported->toml.find(name) != std::string::npos, !imported->notes.empty()) << inner;
  }
}

TEST(SpireImport, AFileIsTakenForWhatItIs) {
  EXPECT_TRUE(is_limpet_config(""));
  EXPECT_TRUE(is_limpet_config("[server]\ntrust_domain = \"x\"\n"));
  EXPECT_TRUE(is_limpet_config("\n[server\n")) << "a mistake in TOML is told as one";
  EXPECT_TRUE(is_limpet_config("a = 1\n  \n[[plugin]]\nx = \n"));
  EXPECT_FALSE(is_limpet_config(kServer));
  EXPECT_FALSE(is_limpet_config(kAgentJson));
  EXPECT_FALSE(is_limpet_config("server = { a = 1 }\nplugins = { }\n"));
  EXPECT_FALSE(is_limpet_config("server {"));
}

}  // namespace
}  // namespace limpet
