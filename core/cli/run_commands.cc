// SPDX-License-Identifier: Apache-2.0
#include "cli/run_commands.h"

#include <algorithm>
#include <cstdio>

#include "cli/import_commands.h"
#include "cli/output.h"
#include "config/config.h"
#include "config/keys.h"

namespace limpet::cli {

namespace {

// ---- flags that override the file ----
void take(const Flags& flags, const char* name, std::string& value) {
  if (flags.given(name)) value = flags.text(name);
}

Result<void> take_port(const Flags& flags, const char* name, uint16_t& port) {
  if (!flags.given(name)) return {};
  const int64_t number = flags.number(name);
  if (number < 1 || number > 65535) {
    return fail(Code::invalid_argument, std::string("-") + name + " must be between 1 and 65535");
  }
  port = static_cast<uint16_t>(number);
  return {};
}

// A flag with a few words to choose from: those of its key in the file.
Result<void> take_word(const Flags& flags, const char* name, std::span<const Key> keys, std::string_view key,
                       std::string& out) {
  if (!flags.given(name)) return {};
  const auto place = std::ranges::find(keys, key, &Key::name);
  const std::string& value = flags.text(name);
  if (!is_choice(place->choices, value))
    return fail(Code::invalid_argument,
                std::string("-") + name + " \"" + value + "\" is not one of " + choice_list(place->choices));
  out = value;
  return {};
}

Result<void> take_log(const Flags& flags, LogConfig& log) {
  take(flags, "logFile", log.file);
  TRY(take_word(flags, "logFormat", server_keys(), "log_format", log.format));
  take(flags, "logLevel", log.level);
  if (flags.given("logSourceLocation")) log.source_location = flags.on("logSourceLocation");
  return {};
}

Result<void> override_server(const Flags& flags, ServerConfig& server) {
  take(flags, "bindAddress", server.bind_address);
  take(flags, "socketPath", server.socket_path);
  take(flags, "trustDomain", server.trust_domain);
  take(flags, "dataDir", server.data_dir);
  TRY(take_log(flags, server.log));
  return take_port(flags, "serverPort", server.bind_port);
}

Result<void> override_agent(const Flags& flags, AgentConfig& agent) {
  take(flags, "serverAddress", agent.server_address);
  take(flags, "socketPath", agent.socket_path);
  take(flags, "trustDomain", agent.trust_domain);
  take(flags, "dataDir", agent.data_dir);
  take(flags, "trustBundle", agent.trust_bundle_path);
  TRY(take_word(flags, "trustBundleFormat", agent_keys(), "trust_bundle_format", agent.trust_bundle_format));
  take(flags, "joinToken", agent.join_token);
  take(flags, "joinTokenFile", agent.join_token_file);
  // what a flag says takes the place of its counterpart in the file
  if (flags.given("joinToken")) agent.join_token_file.clear();
  if (flags.given("joinTokenFile")) agent.join_token.clear();
  if (flags.given("trustBundle")) agent.insecure_bootstrap = false;
  if (flags.given("insecureBootstrap")) agent.insecure_bootstrap = flags.on("insecureBootstrap");
  take(flags, "trustBundleUrl", agent.trust_bundle_url);
  if (flags.given("trustBundleUrl")) agent.trust_bundle_path.clear();
  if (flags.given("trustBundle")) agent.trust_bundle_url.clear();
  if (flags.given("trustBundleUrl")) agent.insecure_bootstrap = false;
  take(flags, "rebootstrapMode", agent.rebootstrap_mode);
  const std::string& mode = agent.rebootstrap_mode;
  if (mode != "never" && mode != "auto" && mode != "always")
    return fail(Code::invalid_argument,
                "-rebootstrapMode takes never, auto or always; \"" + mode + "\" is none of them");
  if (flags.given("rebootstrapDelay")) {
    TRY_ASSIGN_WITHIN("-rebootstrapDelay", agent.rebootstrap_delay_s, parse_duration_s(flags.text("rebootstrapDelay")));
  }
  if (flags.given("disableWorkloadAPI")) agent.disable_workload_api = flags.on("disableWorkloadAPI");
  if (flags.given("disableSDSAPI")) agent.disable_sds_api = flags.on("disableSDSAPI");
  if (flags.given("allowUnauthenticatedVerifiers")) {
    agent.allow_unauthenticated_verifiers = flags.on("allowUnauthenticatedVerifiers");
  }
  TRY(take_log(flags, agent.log));
  return take_port(flags, "serverPort", agent.server_port);
}

// "server", "agent" or "server,agent": what the file has beyond them is left alone.
Result<void> keep_roles(const std::string& roles, Config& config) {
  bool server = false;
  bool agent = false;
  size_t start = 0;
  while (start <= roles.size()) {
    const size_t end = std::min(roles.find(',', start), roles.size());
    const std::string role = roles.substr(start, end - start);
    if (role != "server" && role != "agent") {
      return fail(Code::invalid_argument,
                  "-role takes server, agent or server,agent; \"" + role + "\" is none of them");
    }
    (role == "server" ? server : agent) = true;
    start = end + 1;
  }
  if (server && !config.server) return fail(Code::invalid_argument, "the configuration has no [server] table");
  if (agent && !config.agent) return fail(Code::invalid_argument, "the configuration has no [agent] table");
  if (!server) config.server.reset();
  if (!agent) config.agent.reset();
  return {};
}

Result<Config> configured(const Context& context, const std::string& roles) {
  // the flags are taken before the file is judged: they may supply what it leaves out
  return load_configured(context, [&flags = *context.flags, &roles](Config& config) -> Result<void> {
    TRY(keep_roles(roles, config));
    if (config.server) TRY(override_server(flags, *config.server));
    if (config.agent) TRY(override_agent(flags, *config.agent));
    return {};
  });
}

int run_roles(Context& context, const std::string& roles) {
  const auto config = configured(context, roles);
  if (!config && context.program != kLimpet) {
    std::fprintf(stderr, "%s\n", config.error().message.c_str());  // SPIRE's words, with nothing before them
    return 1;
  }
  if (!config) return failed(config.error());
  return context.runner->run(*config, [&context, &roles](Config& again) -> Result<void> {
    TRY_ASSIGN(again, configured(context, roles));
    return {};
  });
}

int run_server(Context& context) { return run_roles(context, "server"); }
int run_agent(Context& context) { return run_roles(context, "agent"); }
int run_limpet(Context& context) {
  if (context.flags->text("role").empty()) {
    return failed(Error{Code::invalid_argument, "which role? Say -role=server, -role=agent or -role=server,agent"});
  }
  return run_roles(context, context.flags->text("role"));
}

Result<Config> checked(const Context& context) {
  TRY_ASSIGN(Config config, load_configured(context));
  TRY(context.runner->check(config));
  return config;
}

int validate_as(Context& context, const char* what, bool print) {
  const auto config = checked(context);
  if (!config) {
    std::fprintf(stderr, "%s configuration file is invalid: %s\n", what, config.error().message.c_str());
    return 1;
  }
  std::printf("%s configuration file is valid.\n", what);
  if (print) std::printf("\n%s", config_to_toml(*config).c_str());
  return 0;
}

int validate_server(Context& context) { return validate_as(context, "SPIRE server", false); }
int validate_agent(Context& context) { return validate_as(context, "SPIRE agent", false); }
int validate_limpet(Context& context) { return validate_as(context, "Limpet", true); }

// ---- flags ----
Flag config_flag(const char* path) { return {"config", FlagType::text, path, "The configuration file"}; }

Flag expand_flag() {
  return {"expandEnv", FlagType::boolean, "false", "Replace $NAME and ${NAME} in the file by the environment's values"};
}

void add(std::vector<Flag>& flags, std::initializer_list<Flag> more) { flags.insert(flags.end(), more); }

std::vector<Flag> shared_flags(const char* config, const char* socket_help) {
  return {config_flag(config),
          expand_flag(),
          {"socketPath", FlagType::text, "", socket_help},
          {"trustDomain", FlagType::text, "", "The trust domain"},
          {"dataDir", FlagType::text, "", "The directory the state is kept in"},
          {"serverPort", FlagType::number, "", "The server's port"},
          {"logFile", FlagType::text, "", "The file to log to; standard error when left out"},
          {"logFormat", FlagType::text, "", "text or json"},
          {"logLevel", FlagType::text, "", "DEBUG, INFO, WARN or ERROR"},
          {"logSourceLocation", FlagType::boolean, "false", "Name in each record its place in the source"}};
}

void add_server_flags(std::vector<Flag>& flags) {
  add(flags, {{"bindAddress", FlagType::text, "", "The address the server listens on"}});
}

void add_agent_flags(std::vector<Flag>& flags) {
  add(flags, {{"serverAddress", FlagType::text, "", "The server's address"},
              {"trustBundle", FlagType::text, "", "The file with the trust bundle to begin with"},
              {"trustBundleFormat", FlagType::text, "", "pem or spiffe"},
              {"trustBundleUrl", FlagType::text, "", "Where the trust bundle to begin with is fetched from"},
              {"rebootstrapMode", FlagType::text, "",
               "never, auto or always: whether to begin anew with a server of another authority"},
              {"rebootstrapDelay", FlagType::text, "", "How long such a server is refused before"},
              {"disableWorkloadAPI", FlagType::boolean, "false", "Do not serve the Workload API"},
              {"disableSDSAPI", FlagType::boolean, "false", "Do not serve Envoy's SDS"},
              {"insecureBootstrap", FlagType::boolean, "false", "Begin without a trust bundle: for trying out only"},
              {"joinToken", FlagType::text, "", "The join token"},
              {"joinTokenFile", FlagType::text, "", "The file with the join token"},
              {"allowUnauthenticatedVerifiers", FlagType::boolean, "false", "Give bundles to unregistered workloads"}});
}

}  // namespace

std::vector<Command> run_commands() {
  auto server = shared_flags("conf/server/server.conf", "Where the server's API socket is put");
  add_server_flags(server);
  auto agent = shared_flags("conf/agent/agent.conf", "Where the Workload API socket is put");
  add_agent_flags(agent);
  auto both = shared_flags("/etc/limpet/limpet.toml", "Where the role's socket is put");
  add_server_flags(both);
  add_agent_flags(both);
  add(both, {{"role", FlagType::text, "", "server, agent or server,agent"}});
  return {
      {"run", kServer, "Runs the server", server, run_server},
      {"run", kAgent, "Runs the agent", agent, run_agent},
      {"run", kLimpet, "Runs the server, the agent or both", both, run_limpet},
      {"validate",
       kServer,
       "Checks a server's configuration",
       {config_flag("conf/server/server.conf"), expand_flag()},
       validate_server},
      {"validate",
       kAgent,
       "Checks an agent's configuration",
       {config_flag("conf/agent/agent.conf"), expand_flag()},
       validate_agent},
      {"validate",
       kLimpet,
       "Checks a configuration and prints what it comes to",
       {config_flag("/etc/limpet/limpet.toml"), expand_flag()},
       validate_limpet},
  };
}

}  // namespace limpet::cli
