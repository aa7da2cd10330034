// SPDX-License-Identifier: Apache-2.0
#include "config/config.h"

#include <gtest/gtest.h>

namespace limpet {
namespace {

constexpr const char* kServer = "[server]\ntrust_domain = \"example.org\"\ndata_dir = \"/d\"\n";
constexpr const char* kAgent =
    "[agent]\nserver_address = \"s\"\nserver_port = 8081\ntrust_domain = \"example.org\"\ntrust_bundle_path = \"/b\"\n";
constexpr const char* kSha = "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"";

std::string server(const std::string& more) { return kServer + more; }
std::string agent(const std::string& more) { return kAgent + more; }
std::string plugin(const std::string& more) {
  return server("[[plugin]]\ntype = \"KeyManager\"\nname = \"disk\"\n" + more);
}

struct Bad {
  std::string toml;
  const char* message;
};

TEST(Config, EveryMistakeNamesKeyAndPlace) {
  const Bad cases[] = {
      // the file
      {"", "c.toml: neither [server] nor [agent] is configured"},
      {"[server\n", "c.toml:1:8: "},
      {"[server]\na = \n", "c.toml:2:5: "},
      {"\xff", "c.toml:1:1: "},
      {server("trust_domain = \"twice\"\n"), "c.toml:4:16: "},
      {"[sever]\n", "c.toml:1:2: unknown key \"sever\" in the file, did you mean \"server\"?"},
      {"server = 3\n", "c.toml:1:10: \"server\" is an integer, a table is expected"},
      {"[quite_something_else]\n", "c.toml:1:2: unknown key \"quite_something_else\" in the file"},
      // unknown keys
      {server("bind_prot = 1\n"), "c.toml:4:1: unknown key \"bind_prot\" in [server], did you mean \"bind_port\"?"},
      {server("completely_other = 1\n"), "c.toml:4:1: unknown key \"completely_other\" in [server]"},
      {server("live_path = \"/l\"\n"),
       "c.toml:4:1: unknown key \"live_path\" in [server], it belongs to [server.health_checks]"},
      {server("[server.ratelimit]\nsining = true\n"),
       "c.toml:5:1: unknown key \"sining\" in [server.ratelimit], did you mean \"signing\"?"},
      {server("[server.experimental]\nbind_port = 1\n"),
       "c.toml:5:1: unknown key \"bind_port\" in [server.experimental], it belongs to [server]"},
      {agent("sync_interval = \"5s\"\n"),
       "c.toml:6:1: unknown key \"sync_interval\" in [agent], it belongs to [agent.experimental]"},
      {agent("[agent.experimental.ratelimit]\nfetch_x509_svd = 1\n"),
       "c.toml:7:1: unknown key \"fetch_x509_svd\" in [agent.experimental.ratelimit], did you mean "
       "\"fetch_x509_svid\"?"},
      {agent("[agent.experimental]\nratelimt = {}\n"),
       "c.toml:7:1: unknown key \"ratelimt\" in [agent.experimental], did you mean \"ratelimit\"?"},
      {agent("[agent.experimental]\nfetch_secrets = 1\n"),
       "c.toml:7:1: unknown key \"fetch_secrets\" in [agent.experimental], it belongs to "
       "[agent.experimental.ratelimit]"},
      {agent("[agent.experimental]\nratelimit = 1\n"), "c.toml:7:13: \"ratelimit\" is an integer, a table is expected"},
      {agent("[agent.experimental.ratelimit]\nfetch_secrets = -1\n"),
       "c.toml:7:17: \"fetch_secrets\" is -1; it must be from 0 to 1000000"},
      {agent("authorized_delegates = [\"x\"]\n"), "\"x\" in \"authorized_delegates\" is not a SPIFFE ID: "},
      {agent("authorized_delegates = [\"spiffe://other.org/a\"]\n"),
       "\"spiffe://other.org/a\" in \"authorized_delegates\" is not a workload of the trust domain \"example.org\""},
      {plugin("pathh = \"/x\"\n"), "c.toml:7:1: unknown key \"pathh\" in [[plugin]], did you mean \"path\"?"},
      {plugin("dta = {}\n"), "c.toml:7:1: unknown key \"dta\" in [[plugin]], did you mean \"data\"?"},
      {server("[server.telemetry.Prometheus]\nprt = 1\n"),
       "c.toml:5:1: unknown key \"prt\" in [server.telemetry.Prometheus], did you mean \"port\"?"},
      {server("[server.telemetry.Promethius]\nport = 1\n"),
       "c.toml:4:19: unknown key \"Promethius\" in [server.telemetry], did you mean \"Prometheus\"?"},
      {server("telemetry.Prometheus = {}\n"), "c.toml:4:11: \"port\" is required in [server.telemetry.Prometheus]"},
      {server("telemetry.MetricPrefix = \"a-b\"\n"),
       "c.toml:4:11: \"MetricPrefix\" is \"a-b\": letters, digits and underscores are expected"},
      {server("telemetry.MetricPrefix = \"1a\"\n"), "\"MetricPrefix\" is \"1a\""},
      // wrong types
      {server("bind_port = \"8081\"\n"), "c.toml:4:13: \"bind_port\" is a string, an integer is expected"},
      {server("bind_address = 5\n"), "c.toml:4:16: \"bind_address\" is an integer, a string is expected"},
      {server("audit_log_enabled = \"yes\"\n"),
       "c.toml:4:21: \"audit_log_enabled\" is a string, a boolean is expected"},
      {server("ca_ttl = 3600\n"), "c.toml:4:10: \"ca_ttl\" is an integer, a duration such as \"90s\" is expected"},
      {server("admin_ids = \"x\"\n"), "c.toml:4:13: \"admin_ids\" is a string, an array of strings is expected"},
      {server("admin_ids = [\"spiffe://a/b\", 3]\n"),
       "c.toml:4:30: \"admin_ids[1]\" is an integer, a string is expected"},
      {server("ratelimit = true\n"), "c.toml:4:13: \"ratelimit\" is a boolean, a table is expected"},
      {server("bind_port = 80.5\n"), "c.toml:4:13: \"bind_port\" is a floating-point number, an integer is expected"},
      {server("data_dir2 = 2026-01-01\n"),
       "c.toml:4:1: unknown key \"data_dir2\" in [server], did you mean \"data_dir\"?"},
      {plugin("data = 3\n"), "c.toml:7:8: \"data\" is an integer, a table is expected"},
      {plugin("data = { when = 2026-01-01 }\n"),
       "c.toml:7:17: dates, times, infinities and NaN cannot be handed to a plugin"},
      {plugin("data = { n = inf }\n"), "c.toml:7:14: dates, times, infinities and NaN cannot be handed to a plugin"},
      {server("[plugin]\ntype = \"x\"\n"), "c.toml:4:2: \"plugin\" must be written as [[plugin]]"},
      // ranges and choices
      {server("bind_port = 0\n"), "c.toml:4:13: \"bind_port\" is 0; it must be from 1 to 65535"},
      {server("bind_port = 65536\n"), "c.toml:4:13: \"bind_port\" is 65536; it must be from 1 to 65535"},
      {server("bind_port = -9223372036854775808\n"), "c.toml:4:13: \"bind_port\" is -9223372036854775808; it must be"},
      {server("ca_ttl = \"0s\"\n"), "c.toml:4:10: \"ca_ttl\" is \"0s\"; it must be from 1s to"},
      {server("ca_ttl = \"1 day\"\n"), "c.toml:4:10: \"ca_ttl\": \"1 day\" is not a duration"},
      {server("ca_key_type = \"ec-p521\"\n"),
       "c.toml:4:15: \"ca_key_type\" is \"ec-p521\"; known are ec-p256, ec-p384, rsa-2048, rsa-4096"},
      {server("log_level = \"loud\"\n"), "c.toml:4:13: \"log_level\" is \"loud\"; known are panic, fatal, error, warn"},
      {agent("x509_svid_cache_max_size = 0\n"), "c.toml:6:28: \"x509_svid_cache_max_size\" is 0; it must be from 1 to"},
      {agent("trust_bundle_format = \"der\"\n"),
       "c.toml:6:23: \"trust_bundle_format\" is \"der\"; known are pem, spiffe"},
      {server("[[plugin]]\ntype = \"Datastore\"\nname = \"x\"\n"),
       "c.toml:5:8: \"type\" is \"Datastore\"; known are KeyManager"},
      {plugin("role = \"both\"\n"), "c.toml:7:8: \"role\" is \"both\"; known are server, agent"},
      // required keys
      {"[server]\ndata_dir = \"/d\"\n", "c.toml:1:2: \"trust_domain\" is required in [server]"},
      {"[server]\ntrust_domain = \"a\"\ndata_dir = \"\"\n", "c.toml:3:1: \"data_dir\" is required in [server]"},
      {"[agent]\nserver_address = \"s\"\ntrust_domain = \"a\"\ninsecure_bootstrap = true\n",
       "c.toml:1:2: \"server_port\" is required in [agent]"},
      {server("[[plugin]]\ntype = \"KeyManager\"\n"), "c.toml:4:1: \"name\" is required in [[plugin]]"},
      // rules over several keys, and grammar
      {"[server]\ntrust_domain = \"Example Org\"\ndata_dir = \"/d\"\n",
       "c.toml:2:1: \"trust_domain\" is \"Example Org\": "},
      {server("admin_ids = [\"not an id\"]\n"), "c.toml:4:1: \"not an id\" in \"admin_ids\" is not a SPIFFE ID: "},
      {server("ca_subject = { country = [\"Utopia\"] }\n"),
       "c.toml:4:16: \"country\" has \"Utopia\"; two letters are expected"},
      {server("socket_path = \"/" + std::string(120, 'x') + "\"\n"),
       "c.toml:4:1: \"socket_path\" is longer than 107 bytes"},
      {server("health_checks = { live_path = \"live\" }\n"),
       "c.toml:4:19: \"live_path\" is \"live\": it must start with \"/\""},
      {server("health_checks = { live_path = \"/x\", ready_path = \"/x\" }\n"),
       "\"live_path\" and \"ready_path\" are the same"},
      {agent("trust_bundle_url = \"https://b\"\n"),
       "c.toml:6:1: \"trust_bundle_url\" and \"trust_bundle_path\" exclude each other: keep one"},
      {agent("trust_bundle_unix_socket = \"/s\"\n"),
       "c.toml:6:1: \"trust_bundle_unix_socket\" needs \"trust_bundle_url\""},
      {"[agent]\nserver_address = \"s\"\nserver_port = 1\ntrust_domain = \"a\"\ntrust_bundle_url = \"http://b\"\n",
       "c.toml:5:1: \"trust_bundle_url\" is \"http://b\": it must start with \"https://\", and only over "
       "\"trust_bundle_unix_socket\" may it be http"},
      {agent("insecure_bootstrap = true\n"),
       "c.toml:6:1: \"trust_bundle_path\" and \"insecure_bootstrap\" exclude each other: keep one"},
      {"[agent]\nserver_address = \"s\"\nserver_port = 1\ntrust_domain = \"a\"\n",
       "c.toml:1:2: one of \"trust_bundle_path\", \"trust_bundle_url\" and \"insecure_bootstrap\" is required in "
       "[agent]"},
      {agent("join_token = \"a\"\njoin_token_file = \"/b\"\n"),
       "c.toml:7:1: \"join_token\" and \"join_token_file\" exclude each other: keep one"},
      {agent("socket_path = \"/run/a/api.sock\"\nadmin_socket_path = \"/run/a/admin.sock\"\n"),
       "c.toml:7:1: \"admin_socket_path\" lies below the folder of \"socket_path\" (/run/a/)"},
      {plugin("path = \"/x.so\"\n"), "c.toml:7:1: \"sha256\" is required with \"path\"; sha256sum /x.so prints it"},
      {plugin("path = \"x.so\"\nsha256 = " + std::string(kSha) + "\n"),
       "c.toml:7:1: \"path\" is \"x.so\": an absolute path"},
      {plugin("path = \"/x.so\"\nsha256 = \"ABC\"\n"),
       "c.toml:8:1: \"sha256\" must be 64 lower-case hexadecimal digits"},
      {plugin("sha256 = " + std::string(kSha) + "\n"), "c.toml:7:1: \"sha256\" needs \"path\""},
      {server("[[plugin]]\ntype = \"WorkloadAttestor\"\nname = \"x\"\nnetwork = true\npath = \"/x.so\"\nsha256 = " +
              std::string(kSha) + "\n"),
       "c.toml:7:1: \"network\" is true for the WorkloadAttestor \"x\": it sees every process and file, and so gets no "
       "network; remove \"network\""},
      {plugin("[[plugin]]\ntype = \"KeyManager\"\nname = \"disk\"\nrole = \"agent\"\n"),
       "c.toml:7:1: plugin KeyManager \"disk\" is configured twice for the role agent"},
  };
  for (const Bad& c : cases) {
    const auto config = parse_config(c.toml, "c.toml");
    ASSERT_FALSE(config) << c.toml;
    EXPECT_EQ(config.error().code, Code::invalid_argument);
    EXPECT_NE(config.error().message.find(c.message), std::string::npos) << c.toml << "\n-> " << config.error().message;
  }
}

TEST(Config, OneRunNamesEveryMistakeInTheOrderOfTheFile) {
  const auto config = parse_config("[server]\nbind_port = 0\ntrust_domain = 5\n", "c.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().message,
            "c.toml:2:13: \"bind_port\" is 0; it must be from 1 to 65535\n"
            "c.toml:3:16: \"trust_domain\" is an integer, a string is expected");
  std::string many = "[server]\n";
  for (int i = 0; i < 30; ++i) many += "zzzzzzzzz" + std::to_string(i) + " = 1\n";
  EXPECT_NE(parse_config(many, "c.toml").error().message.find("\nand 10 more"), std::string::npos);
}

TEST(Config, AFileWithTheRequiredKeysKeepsTheDefaults) {
  const auto config = parse_config(kServer, "c.toml");
  ASSERT_TRUE(config) << config.error().message;
  ASSERT_TRUE(config->server);
  EXPECT_FALSE(config->agent);
  EXPECT_EQ(config->server->bind_port, 8081);
  EXPECT_EQ(config->server->ca_ttl_s, 86'400);
  EXPECT_EQ(config->server->ca_subject_country, std::vector<std::string>{"US"});
  EXPECT_TRUE(config->server->ratelimit_signing);
  EXPECT_EQ(config->server->log.level, "INFO");
}

TEST(Config, EveryKeyIsReadIntoItsMember) {
  const auto config = parse_config(R"(
[server]
bind_address = "::1"
bind_port = 1
socket_path = "/s"
trust_domain = "example.org"
data_dir = "/d"
ca_key_type = "rsa-2048"
ca_subject = { country = ["NZ", "DE"], organization = [], common_name = "cn" }
ca_ttl = "48h"
default_x509_svid_ttl = "2h"
default_jwt_svid_ttl = "90s"
agent_ttl = "30m"
admin_ids = ["spiffe://example.org/admin"]
audit_log_enabled = true
log_level = "debug"
log_format = "json"
log_file = "/log"
ratelimit = { attestation = false, signing = false }
experimental.agent_spiffe_id_as_selector = true
[server.health_checks]
listener_enabled = true
bind_address = "0.0.0.0"
bind_port = 8080
live_path = "/l"
ready_path = "/r"
[agent]
server_address = "host"
server_port = 2
trust_domain = "example.org"
data_dir = "/a"
socket_path = "/run/public/api.sock"
admin_socket_path = "/run/admin.sock"
insecure_bootstrap = true
trust_bundle_format = "spiffe"
join_token = "t"
workload_x509_svid_key_type = "ec-p384"
x509_svid_cache_max_size = 7
allow_unauthenticated_verifiers = true
experimental = { sync_interval = "1m" }
)",
                                   "c.toml");
  ASSERT_TRUE(config) << config.error().message;
  const ServerConfig& s = *config->server;
  EXPECT_EQ(s.bind_address + s.socket_path + s.data_dir + s.ca_key_type + s.ca_subject_common_name,
            "::1/s/drsa-2048cn");
  EXPECT_EQ(s.bind_port, 1);
  EXPECT_EQ(s.ca_subject_country, (std::vector<std::string>{"NZ", "DE"}));
  EXPECT_TRUE(s.ca_subject_organization.empty());
  EXPECT_EQ(s.ca_ttl_s, 172'800);
  EXPECT_EQ(s.default_x509_svid_ttl_s, 7200);
  EXPECT_EQ(s.default_jwt_svid_ttl_s, 90);
  EXPECT_EQ(s.agent_ttl_s, 1800);
  EXPECT_EQ(s.admin_ids, std::vector<std::string>{"spiffe://example.org/admin"});
  EXPECT_TRUE(s.audit_log_enabled && s.agent_spiffe_id_as_selector && !s.ratelimit_attestation && !s.ratelimit_signing);
  EXPECT_EQ(s.log.level + s.log.format + s.log.file, "debugjson/log");
  EXPECT_TRUE(s.health_checks.listener_enabled);
  EXPECT_EQ(s.health_checks.bind_address + s.health_checks.live_path + s.health_checks.ready_path, "0.0.0.0/l/r");
  EXPECT_EQ(s.health_checks.bind_port, 8080);
  const AgentConfig& a = *config->agent;
  EXPECT_EQ(a.server_address + a.data_dir + a.join_token + a.trust_bundle_format, "host/atspiffe");
  EXPECT_EQ(a.server_port, 2);
  EXPECT_TRUE(a.insecure_bootstrap && a.allow_unauthenticated_verifiers);
  EXPECT_EQ(a.workload_x509_svid_key_type, "ec-p384");
  EXPECT_EQ(a.x509_svid_cache_max_size, 7);
  EXPECT_EQ(a.sync_interval_s, 60);
}

TEST(Config, APluginsTableReachesItAsJson) {
  const auto config = parse_config(plugin("data = { text = \"a\\\"b\\n\", n = -3, r = 0.5, s = -25e-1, on = true, list "
                                          "= [1, \"x\"], in = { k = \"v\" } }\n"),
                                   "c.toml");
  ASSERT_TRUE(config) << config.error().message;
  ASSERT_EQ(config->plugins.size(), 1u);
  const PluginConfig& p = config->plugins[0];
  EXPECT_EQ(p.type + " " + p.name, "KeyManager disk");
  EXPECT_EQ(p.line, 4);
  EXPECT_TRUE(p.enabled);
  EXPECT_EQ(p.data_json, R"({"in":{"k":"v"},"list":[1,"x"],"n":-3,"on":true,"r":0.5,"s":-2.5,"text":"a\"b\u000a"})");
}

TEST(Config, ACommandLineMaySupplyWhatTheFileLeavesOut) {
  const std::string toml = "[server]\ndata_dir = \"/d\"\n";
  EXPECT_FALSE(parse_config(toml, "c.toml"));
  const auto config = parse_config(toml, "c.toml", [](Config& c) -> Result<void> {
    c.server->trust_domain = "example.org";
    return {};
  });
  ASSERT_TRUE(config) << config.error().message;
  const auto bad = parse_config(toml, "c.toml", [](Config& c) -> Result<void> {
    c.server->trust_domain = "Not Valid";
    return {};
  });
  EXPECT_FALSE(bad);
}

TEST(Config, PasswordsOfPluginsAreNotPrinted) {
  const auto config = parse_config(
      plugin("data = { devid_password = \"hush1\", owner_hierarchy_password = \"\", in = { pin = 72991 }, user-pin = "
             "\"hush2\", pin_file = \"/pin\", token = \"label\", passwords = [\"shown\"], pins = 3 }\n"),
      "c.toml");
  ASSERT_TRUE(config) << config.error().message;
  const std::string printed = config_to_toml(*config);
  for (const char* secret : {"hush", "72991"}) EXPECT_EQ(printed.find(secret), std::string::npos) << printed;
  for (const char* text :
       {"devid_password = \"(set)\"", "owner_hierarchy_password = \"\"", "in = {pin = \"(set)\"}",
        "user-pin = \"(set)\"", "pin_file = \"/pin\"", "token = \"label\"", "passwords = [\"shown\"]", "pins = 3"})
    EXPECT_NE(printed.find(text), std::string::npos) << text << " in " << printed;
}

TEST(Config, TheEffectiveConfigurationReadsBackAsItself) {
  const std::string toml =
      server("health_checks.bind_port = 99\n") +
      "[[plugin]]\ntype = \"KeyManager\"\nname = \"disk\"\ndata = { \"odd key\" = [1, { a = \"x\" }] }\n" + kAgent +
      "join_token_file = \"/t\"\n";
  const auto config = parse_config(toml, "c.toml");
  ASSERT_TRUE(config) << config.error().message;
  const std::string printed = config_to_toml(*config);
  EXPECT_NE(printed.find("ca_ttl = \"24h\"\n"), std::string::npos) << printed;
  EXPECT_NE(printed.find("[server.health_checks]\nlistener_enabled = false\n"), std::string::npos) << printed;
  const auto again = parse_config(printed, "printed");
  ASSERT_TRUE(again) << again.error().message << "\n" << printed;
  EXPECT_EQ(config_to_toml(*again), printed);
  EXPECT_EQ(again->server->health_checks.bind_port, 99);
  EXPECT_EQ(again->plugins[0].data_json, config->plugins[0].data_json);
}

TEST(Config, ATableWithinATableReadsBackAsItself) {
  const auto config = parse_config(agent("authorized_delegates = [\"spiffe://example.org/a\"]\nexperimental = { "
                                         "sync_interval = \"9s\", ratelimit = { stream_secrets = 3 } }\n"),
                                   "c.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->agent->ratelimit.stream_secrets, 3);
  EXPECT_EQ(config->agent->ratelimit.fetch_x509_svid, 0);
  EXPECT_EQ(config->agent->sync_interval_s, 9);
  EXPECT_EQ(config->agent->authorized_delegates, std::vector<std::string>{"spiffe://example.org/a"});
  const std::string printed = config_to_toml(*config);
  const auto again = parse_config(printed, "printed");
  ASSERT_TRUE(again) << again.error().message << "\n" << printed;
  EXPECT_EQ(config_to_toml(*again), printed);
  EXPECT_EQ(again->agent->ratelimit.stream_secrets, 3);
}

TEST(Config, AJoinTokenIsNotPrinted) {
  const auto config = parse_config(agent("join_token = \"very-secret\"\n"), "c.toml");
  ASSERT_TRUE(config);
  EXPECT_EQ(config_to_toml(*config).find("very-secret"), std::string::npos);
}

TEST(Config, TheSamplesAreValidAndShowTheDefaults) {
  for (const char* name :
       {"server.toml", "agent.toml", "both.toml", "oidc.toml", "x509pop-server.toml", "x509pop-agent.toml"}) {
    const auto config = load_config(std::string(LIMPET_SAMPLES) + "/" + name);
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_FALSE(config->plugins.empty());
  }
  const auto sample = load_config(std::string(LIMPET_SAMPLES) + "/server.toml");
  const ServerConfig defaults;
  EXPECT_EQ(sample->server->bind_port, defaults.bind_port);
  EXPECT_EQ(sample->server->socket_path, defaults.socket_path);
  EXPECT_EQ(sample->server->ca_ttl_s, defaults.ca_ttl_s);
  EXPECT_EQ(sample->server->default_x509_svid_ttl_s, defaults.default_x509_svid_ttl_s);
  EXPECT_EQ(sample->server->default_jwt_svid_ttl_s, defaults.default_jwt_svid_ttl_s);
  EXPECT_TRUE(load_config(LIMPET_SAMPLES "/oidc.toml")->server->oidc_discovery.enabled());
}

TEST(Config, AMissingFileIsNamed) {
  const auto config = load_config("/nonexistent/x.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, Code::not_found);
  EXPECT_EQ(config.error().message,
            "cannot read the configuration file /nonexistent/x.toml: No such file or directory");
  EXPECT_FALSE(load_config("/"));
}

TEST(Config, AHugeFileIsRefused) {
  const auto config = parse_config(std::string((1u << 20) + 1, '#'), "c.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().message, "c.toml: the file is larger than 1048576 bytes");
}

TEST(Config, DeepNestingIsRefusedByTheParser) {
  const std::string deep = "[server]\na = " + std::string(5000, '[') + std::string(5000, ']') + "\n";
  EXPECT_FALSE(parse_config(deep, "c.toml"));
}

}  // namespace
}  // namespace limpet
