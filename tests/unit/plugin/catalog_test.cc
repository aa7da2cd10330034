// SPDX-License-Identifier: Apache-2.0
#include "plugin/catalog.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "crypto/key.h"
#include "loop/destroy_at_every_step.h"
#include "scripted.h"

namespace limpet {
namespace {

using namespace test;

// ---- a plugin with a component of every kind; they share the scripted component's life ----
limpet_session* no_agent_session(limpet_instance*) { return nullptr; }
limpet_session* no_server_session(limpet_instance*, const limpet_attempt*) { return nullptr; }
void no_bytes(limpet_session*, limpet_op*, limpet_bytes_done) {}
void no_answer(limpet_session*, limpet_op*, limpet_bytes, limpet_bytes_done) {}
void no_step(limpet_session*, limpet_op*, limpet_bytes, limpet_step_done) {}
void no_close(limpet_session*) {}
void no_key(limpet_instance*, limpet_op*, limpet_str, uint32_t, limpet_key_done) {}
void no_keys(limpet_instance*, limpet_op*, limpet_keys_done) {}
void no_signature(limpet_instance*, limpet_op*, const limpet_sign_request*, limpet_signature_done) {}

constexpr limpet_node_attestor_agent kAgentTable = {sizeof kAgentTable, 0,         no_agent_session,
                                                    no_bytes,           no_answer, no_close};
constexpr limpet_node_attestor_server kServerTable = {sizeof kServerTable, 0, no_server_session, no_step, no_close};
constexpr limpet_key_manager kKeyTable = {sizeof kKeyTable, 0, no_key, no_keys, no_signature, nullptr};
void no_mint(limpet_instance*, limpet_op*, limpet_bytes, uint32_t, limpet_minted_done) {}
void no_publish(limpet_instance*, limpet_op*, const limpet_jwt_key*, limpet_done) {}
void no_watch(limpet_instance*, limpet_op*, limpet_bundle_update, limpet_done) {}
constexpr limpet_upstream_authority kUpstreamTable = {sizeof kUpstreamTable, 0, no_mint, no_publish, no_watch};

void no_seal(limpet_instance*, limpet_op*, limpet_bytes, limpet_bytes, limpet_bytes_done) {}
constexpr limpet_sealer kSealerTable = {sizeof kSealerTable, 0, no_seal, no_seal};

#define COMPONENT(id, name, table) \
  {sizeof(limpet_component), 0, id, name, script_create, script_destroy, script_configure, script_cancel, table}
constexpr limpet_component kAgent = COMPONENT(LIMPET_NODE_ATTESTOR_AGENT, "both", &kAgentTable);
constexpr limpet_component kServer = COMPONENT(LIMPET_NODE_ATTESTOR_SERVER, "both", &kServerTable);
constexpr limpet_component kAgentOnly = COMPONENT(LIMPET_NODE_ATTESTOR_AGENT, "agent_only", &kAgentTable);
constexpr limpet_component kKeys = COMPONENT(LIMPET_KEY_MANAGER, "keys", &kKeyTable);
constexpr limpet_component kUpstream = COMPONENT(LIMPET_UPSTREAM_AUTHORITY, "above", &kUpstreamTable);
constexpr limpet_component kUpstreamToo = COMPONENT(LIMPET_UPSTREAM_AUTHORITY, "beside", &kUpstreamTable);
constexpr limpet_component kBox = COMPONENT(LIMPET_SEALER, "box", &kSealerTable);
constexpr limpet_component kBoxToo = COMPONENT(LIMPET_SEALER, "chest", &kSealerTable);
constexpr const limpet_component* kComponents[] = {&kAgent,       &kServer,      &kAgentOnly, &kKeys,   &kUpstream,
                                                   &kUpstreamToo, &kScripted<0>, &kBox,       &kBoxToo, nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0, 0, "org.example.all", "1", "MIT", kComponents};
const limpet_plugin* entry(uint32_t, uint32_t) { return &kPlugin; }
const limpet_plugin* no_entry(uint32_t, uint32_t) { return nullptr; }
constexpr StaticPlugin kBuiltIn[] = {{"all", &entry}};

PluginConfig table(std::string type, std::string name, std::string role = "") {
  PluginConfig c;
  c.type = std::move(type);
  c.name = std::move(name);
  c.role = std::move(role);
  c.line = 12;
  return c;
}
const PluginConfig kKeyTableConfig = table("KeyManager", "keys");
const PluginConfig kNodeConfig = table("NodeAttestor", "both");

struct CatalogTest : ::testing::Test {
  std::string start(PluginRole role, const std::vector<PluginConfig>& plugins, bool dry_run = false,
                    std::set<std::string> provided = {}) {
    catalog.emplace(PluginContext{loop, Logger::none(), "example.org"},
                    Catalog::Options{.role = role, .provided = std::move(provided), .shim_program = LIMPET_SHIM},
                    kBuiltIn);
    Waiter<void> waiter;
    dry_run ? catalog->validate(plugins, waiter.arm()) : catalog->start(plugins, waiter.arm());
    EXPECT_EQ(outcome(waiter), "waiting");
    loop.run_ready();
    return outcome(waiter);
  }
  Script script;
  FakeLoop loop;
  std::optional<Catalog> catalog;
};

TEST_F(CatalogTest, RefusesTablesThatMakeNoSense) {
  struct Case {
    PluginRole role;
    std::vector<PluginConfig> plugins;
    std::string error;
  };
  PluginConfig off = kKeyTableConfig;
  off.enabled = false;
  PluginConfig other = kKeyTableConfig;
  other.name = "absent";
  PluginConfig by_path = other;
  by_path.path = "/nowhere/x.so";
  const PluginConfig workload = table("WorkloadAttestor", "scripted");
  const Case cases[] = {
      {PluginRole::server,
       {},
       "InvalidArgument: the server needs exactly one [[plugin]] with type = \"KeyManager\", found 0"},
      {PluginRole::server,
       {off},
       "InvalidArgument: the server needs exactly one [[plugin]] with type = \"KeyManager\", found 0"},
      {PluginRole::server,
       {kKeyTableConfig, kKeyTableConfig},
       "InvalidArgument: the server needs exactly one [[plugin]] with type = \"KeyManager\", found 2"},
      {PluginRole::agent,
       {kKeyTableConfig},
       "InvalidArgument: the agent needs exactly one [[plugin]] with type = \"NodeAttestor\", found 0"},
      {PluginRole::server,
       {other},
       "NotFound: KeyManager \"absent\" (line 12): no such plugin is built in; give path and sha256 of a shared "
       "object"},
      {PluginRole::server,
       {by_path},
       "NotFound: KeyManager \"absent\" (line 12): plugin /nowhere/x.so cannot be opened: No such file or directory"},
      {PluginRole::server,
       {kKeyTableConfig, table("UpstreamAuthority", "above"), table("UpstreamAuthority", "beside")},
       "InvalidArgument: the server takes at most one [[plugin]] with type = \"UpstreamAuthority\", found 2"},
      {PluginRole::agent,
       {kKeyTableConfig, kNodeConfig, table("Sealer", "box"), table("Sealer", "chest")},
       "InvalidArgument: the agent takes at most one [[plugin]] with type = \"Sealer\", found 2"},
      {PluginRole::agent,
       {kKeyTableConfig, kNodeConfig, table("UpstreamAuthority", "above", "agent")},
       "InvalidArgument: UpstreamAuthority \"above\" (line 12): the agent has no plugins of this type"},
      {PluginRole::server,
       {table("Notifier", "x")},
       "InvalidArgument: Notifier \"x\" (line 12): the server has no plugins of this type"},
      {PluginRole::server,
       {table("WorkloadAttestor", "scripted", "server")},
       "InvalidArgument: WorkloadAttestor \"scripted\" (line 12): the server has no plugins of this type"},
      {PluginRole::server,
       {kKeyTableConfig, table("NodeAttestor", "agent_only", "server")},
       "NotFound: NodeAttestor \"agent_only\" (line 12): no such plugin is built in; give path and sha256 of a shared "
       "object"},
      {PluginRole::agent,
       {kKeyTableConfig, kNodeConfig, workload, workload},
       "InvalidArgument: WorkloadAttestor \"scripted\" (line 12): configured twice"},
  };
  for (const Case& c : cases) EXPECT_EQ(start(c.role, c.plugins), c.error);
  EXPECT_TRUE(script.log().empty()) << "nothing is created before the tables make sense";
}

TEST_F(CatalogTest, AnAgentGetsItsThreeKinds) {
  ASSERT_EQ(start(PluginRole::agent, {kKeyTableConfig, kNodeConfig, table("WorkloadAttestor", "scripted")}), "ok");
  ASSERT_NE(catalog->key_manager(), nullptr);
  EXPECT_EQ(catalog->key_manager()->name(), "keys");
  ASSERT_NE(catalog->node_attestor_agent(), nullptr);
  EXPECT_EQ(catalog->node_attestor_agent()->name(), "both");
  EXPECT_EQ(catalog->node_attestor_server("both"), nullptr);
  ASSERT_EQ(catalog->workload_attestors().size(), 1u);
  EXPECT_EQ(catalog->workload_attestors()[0]->name(), "scripted");
}

TEST_F(CatalogTest, AServerSkipsWhatBelongsToTheAgentOrIsItsOwn) {
  ASSERT_EQ(start(PluginRole::server,
                  {kKeyTableConfig, kNodeConfig, table("NodeAttestor", "agent_only"), table("NodeAttestor", "ours"),
                   table("WorkloadAttestor", "scripted"), table("KeyManager", "absent", "agent")},
                  false, {"ours"}),
            "ok");
  EXPECT_NE(catalog->node_attestor_server("both"), nullptr);
  EXPECT_EQ(catalog->node_attestor_server("agent_only"), nullptr);
  EXPECT_EQ(catalog->node_attestor_server("ours"), nullptr);
  EXPECT_EQ(catalog->node_attestor_agent(), nullptr);
  EXPECT_TRUE(catalog->workload_attestors().empty());
}

TEST_F(CatalogTest, AServerHasAnUpstreamAuthorityOrNone) {
  ASSERT_EQ(start(PluginRole::server, {kKeyTableConfig}), "ok");
  EXPECT_EQ(catalog->upstream_authority(), nullptr);
  ASSERT_EQ(start(PluginRole::server, {kKeyTableConfig, table("UpstreamAuthority", "above")}), "ok");
  ASSERT_NE(catalog->upstream_authority(), nullptr);
  EXPECT_EQ(catalog->upstream_authority()->name(), "above");
}

TEST_F(CatalogTest, EitherRoleHasASealerOrNoneAndItComesFirst) {
  PluginConfig box = table("Sealer", "box");
  box.data_json = "{\"box\":1}";
  PluginConfig node = kNodeConfig;
  node.data_json = "{\"node\":1}";
  ASSERT_EQ(start(PluginRole::agent, {node, kKeyTableConfig, box}), "ok");
  ASSERT_NE(catalog->sealer(), nullptr);
  EXPECT_EQ(catalog->sealer()->name(), "box");
  EXPECT_EQ(script.log(), (std::vector<std::string>{"create", "configure {\"box\":1}", "create", "configure {}",
                                                    "create", "configure {\"node\":1}"}));
  ASSERT_EQ(start(PluginRole::server, {kKeyTableConfig, box}), "ok");
  EXPECT_NE(catalog->sealer(), nullptr);
  ASSERT_EQ(start(PluginRole::server, {kKeyTableConfig}), "ok");
  EXPECT_EQ(catalog->sealer(), nullptr);
}

TEST_F(CatalogTest, OnlyThePluginsAfterTheKeyManagerMayAskForItsKeys) {
  const auto service = [this](const char* id) { return script.host->service(script.host, id) != nullptr; };
  ASSERT_EQ(start(PluginRole::server, {kKeyTableConfig, table("Sealer", "box")}), "ok");
  EXPECT_FALSE(service(LIMPET_SERVICE_KEYS)) << "the key manager itself";
  EXPECT_TRUE(service(LIMPET_SERVICE_SEAL));
  ASSERT_EQ(start(PluginRole::agent, {kNodeConfig, kKeyTableConfig}), "ok");
  EXPECT_TRUE(service(LIMPET_SERVICE_KEYS));
  EXPECT_FALSE(service(LIMPET_SERVICE_SEAL)) << "there is no sealer";
}

TEST_F(CatalogTest, KeysAloneTakeNoAttestor) {
  catalog.emplace(PluginContext{loop, Logger::none(), "example.org"},
                  Catalog::Options{.role = PluginRole::agent, .keys_only = true}, kBuiltIn);
  Waiter<void> waiter;
  catalog->start({table("NodeAttestor", "no such one"), kKeyTableConfig}, waiter.arm());
  loop.run_ready();
  ASSERT_EQ(outcome(waiter), "ok");
  EXPECT_NE(catalog->key_manager(), nullptr);
}

TEST_F(CatalogTest, EachPluginGetsItsOwnConfiguration) {
  PluginConfig keys = kKeyTableConfig;
  keys.data_json = R"({"a":1})";
  ASSERT_EQ(start(PluginRole::server, {keys}), "ok");
  catalog.reset();
  EXPECT_EQ(script.log(), (std::vector<std::string>{"create", R"(configure {"a":1})", "destroy"}));
}

TEST_F(CatalogTest, ARefusedConfigurationNamesThePluginAndEndsTheStart) {
  script.configure_code = LIMPET_INVALID_ARGUMENT;
  EXPECT_EQ(start(PluginRole::agent, {kKeyTableConfig, kNodeConfig}),
            "InvalidArgument: KeyManager \"keys\" (line 12): keymanager(keys): no good");
  EXPECT_EQ(catalog->key_manager(), nullptr);
  EXPECT_EQ(script.log(), (std::vector<std::string>{"create", "configure {}", "destroy"}));
}

TEST_F(CatalogTest, ADryRunConfiguresAllOfThemAndKeepsNone) {
  EXPECT_EQ(start(PluginRole::agent, {kKeyTableConfig, kNodeConfig}, true), "ok");
  EXPECT_EQ(script.log(), (std::vector<std::string>{"create", "configure {} dry", "destroy", "create",
                                                    "configure {} dry", "destroy"}));
  EXPECT_EQ(catalog->key_manager(), nullptr);
  EXPECT_EQ(catalog->node_attestor_agent(), nullptr);
}

TEST_F(CatalogTest, ABuiltInPluginPassesTheSameChecks) {
  const StaticPlugin bad[] = {{"odd", &no_entry}};
  Catalog odd(PluginContext{loop, Logger::none(), "example.org"}, {PluginRole::server, {}}, bad);
  Waiter<void> waiter;
  odd.start({kKeyTableConfig}, waiter.arm());
  loop.run_ready();
  EXPECT_TRUE(outcome(waiter).starts_with("FailedPrecondition: plugin odd refused")) << outcome(waiter);
}

PluginConfig shared_object(std::string name, std::string path) {
  PluginConfig config = table("WorkloadAttestor", std::move(name));
  config.path = std::move(path);
  std::ifstream file(config.path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  config.sha256 = hex_encode(sha256(as_bytes(text)));
  return config;
}

TEST_F(CatalogTest, SharedObjectsGiveAttestorsThatWork) {
  ASSERT_EQ(start(PluginRole::agent, {kKeyTableConfig, kNodeConfig, shared_object("mock", LIMPET_MOCKS "/mock_good.so"),
                                      shared_object("comm", LIMPET_MOCKS "/comm_attestor.so")}),
            "ok");
  const std::string self = ::program_invocation_short_name;
  const std::string expected[] = {"pid:" + std::to_string(::getpid()), "name:" + self.substr(0, 15)};
  ASSERT_EQ(catalog->workload_attestors().size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    Waiter<std::vector<std::string>> waiter;
    catalog->workload_attestors()[i]->attest({::getpid(), -1, 0, 0}, waiter.arm());
    loop.run_ready();
    ASSERT_EQ(outcome(waiter), "ok");
    EXPECT_EQ(**waiter.result, std::vector<std::string>{expected[i]});
  }
}

// Loading runs a plugin's code: in a throw-away child first, or this test would not come to its end.
TEST_F(CatalogTest, APluginThatEndsItsProcessIsAnErrorOfTheStart) {
  for (const char* name : {"crashes", "exits"}) {
    const std::string path = std::string(LIMPET_MOCKS "/mock_") + name + ".so";
    const std::string said = start(PluginRole::agent, {kKeyTableConfig, kNodeConfig, shared_object("mock", path)});
    EXPECT_NE(said.find("its code ended the process that looked at it"), std::string::npos) << said;
  }
}

TEST_F(CatalogTest, TheExamplePluginSaysWhenAProcessIsGone) {
  ASSERT_EQ(
      start(PluginRole::agent, {kKeyTableConfig, kNodeConfig, shared_object("comm", LIMPET_MOCKS "/comm_attestor.so")}),
      "ok");
  Waiter<std::vector<std::string>> waiter;
  catalog->workload_attestors()[0]->attest({0, -1, 0, 0}, waiter.arm());
  loop.run_ready();
  EXPECT_EQ(outcome(waiter), "NotFound: workloadattestor(comm): the process cannot be read");
}

TEST(Catalog, MayBeDestroyedAtEachStepOfItsStart) {
  struct Scenario {
    explicit Scenario(FakeLoop& loop) {
      flow = std::make_unique<Catalog>(PluginContext{loop, Logger::none(), "example.org"},
                                       Catalog::Options{PluginRole::agent, {}}, kBuiltIn);
      flow->start({kKeyTableConfig, kNodeConfig}, waiter.arm());
    }
    Script script;
    Waiter<void> waiter;
    std::unique_ptr<Catalog> flow;
  };
  EXPECT_GE(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<Scenario>(loop); }), 3u);
}

}  // namespace
}  // namespace limpet
