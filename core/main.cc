// SPDX-License-Identifier: Apache-2.0
// The program: takes its name's part (limpet, spire-server, spire-agent), and for `run` builds every object of the
// roles and runs the loop. The only place that knows all.
#include <malloc.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/errno_text.h"
#include "cli/command.h"
#include "cli/json.h"
#include "config/config.h"
#include "config/reload.h"
#include "crypto/x509.h"
#include "daemon.h"
#include "health_listener.h"
#include "loop/uv_loop.h"
#include "metrics_listener.h"
#include "plugin/catalog.h"
#include "plugin/describe.h"
#include "plugin/http_caller.h"
#include "plugin/key_csr.h"
#include "plugin/plugin_keys.h"
#include "plugin/private_state.h"
#include "plugin/server_facts.h"
#include "plugin/spiffe_caller.h"
#include "report/health.h"
#include "report/log.h"
#include "report/metrics.h"
#include "store/plugin_state.h"
#include "store/store.h"
#ifdef LIMPET_SERVER
#include "server/enrollment_api.h"
#include "server/plugin_facts.h"
#include "server/server.h"
#endif
#ifdef LIMPET_AGENT
#include "agent/agent.h"
#endif

// libstdc++'s own prints what was thrown, by name: nothing is thrown here, and its demangler is 50 kB of the binary.
namespace __gnu_cxx {
void __verbose_terminate_handler();
void __verbose_terminate_handler() { std::abort(); }
}  // namespace __gnu_cxx

namespace limpet {
namespace {

Result<std::unique_ptr<Logger>> open_logger(const LogConfig& config, const Clock& clock) {
  Logger::Options options;
  TRY_ASSIGN(options.level, parse_log_level(config.level));
  options.json = config.format == "json";
  options.file = config.file;
  options.source_location = config.source_location;
  return Logger::open(options, clock);
}

// limpet.kv/1 over the role's own store, which knows nothing of plugins.
class StoredPluginState final : public PrivateState {
 public:
  StoredPluginState(Loop& loop, Store& store) : table_(loop, store, kPluginStateKeys) {}
  void get(const std::string& owner, std::string key, Done<Bytes> done) override {
    table_.get(owner, std::move(key), std::move(done));
  }
  void put(const std::string& owner, std::string key, Bytes value, Done<Bytes> done) override {
    table_.put(owner, std::move(key), std::move(value), std::move(done));
  }
  void remove(const std::string& owner, std::string key, Done<Bytes> done) override {
    table_.remove(owner, std::move(key), std::move(done));
  }

 private:
  PluginState table_;
};

// How long calls in flight may take once a signal came.
constexpr int64_t kStopMs = 10'000;

// Each missing directory of the path, for its owner only: keys lie there.
Result<void> make_directories(const std::string& path) {
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return fail(Code::unavailable, "data_dir " + path + ": cannot make " + part + ": " + errno_text(errno));
    }
    if (end == std::string::npos) return {};
  }
}

// The join_token attestor's data as JSON: SPIRE's keys `join_token` and `join_token_file` stand in [agent], not in the
// plugin.
std::string join_token_data(const AgentConfig& agent) {
  const bool by_value = !agent.join_token.empty();
  const std::string& text = by_value ? agent.join_token : agent.join_token_file;
  if (text.empty()) return "{}";
  cli::JsonWriter json;
  json.begin_object().key(by_value ? "token" : "token_file").string(text).end_object();
  return json.text();
}

// An agent without a NodeAttestor gets join_token: it needs no configuration, nor a token once it has attested.
std::vector<PluginConfig> with_join_token(std::vector<PluginConfig> plugins, const AgentConfig& agent) {
  bool attestor = false;
  for (PluginConfig& plugin : plugins) {
    if (plugin.type != "NodeAttestor" || plugin.role == "server" || !plugin.enabled) continue;
    attestor = true;
    if (plugin.name == "join_token" && plugin.data_json == "{}") plugin.data_json = join_token_data(agent);
  }
  if (attestor) return plugins;
  PluginConfig plugin;
  plugin.type = "NodeAttestor";
  plugin.name = "join_token";
  plugin.role = "agent";
  plugin.data_json = join_token_data(agent);
  plugins.push_back(std::move(plugin));
  return plugins;
}

Catalog::Options catalog_options(PluginRole role, UvLoop& loop, Health* health) {
  Catalog::Options options;
  options.shim_loop = &loop;
  options.health = health;
  options.role = role;
  if (role == PluginRole::server) options.provided = {"join_token"};  // the store owns the tokens
  return options;
}

const char* role_name(PluginRole role) { return role == PluginRole::server ? "server" : "agent"; }

std::string list_of(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ",") + name;
  return out.empty() ? "nothing" : out;
}

// Opens what stands on disk, starts the plugins, then the role proper.
template <class Config_, class Proper>
class RoleOf : public Role {
 public:
  RoleOf(UvLoop& loop, const Clock& clock, std::unique_ptr<Logger> logger, Config_ config,
         std::vector<PluginConfig> plugins, PluginRole role)
      : loop_(loop),
        clock_(clock),
        logger_(std::move(logger)),
        metrics_(metrics_options(config.telemetry, role_name(role), config.trust_domain),
                 config.telemetry.prometheus_port == 0 ? nullptr : &clock),
        config_(std::move(config)),
        plugins_(std::move(plugins)),
        name_(role_name(role)),
        role_(role),
        grpc_(loop, clock),
        http_(loop) {}

  void start(Done<void> done) override {
    done_ = std::move(done);
    if (auto opened = open_store(); !opened) return fail_later(std::move(opened).error());
    if (auto opened = open_health(); !opened) return fail_later(std::move(opened).error());
    if (auto opened = open_metrics(); !opened) return fail_later(std::move(opened).error());
    state_ = std::make_unique<StoredPluginState>(loop_, *store_);
    HostServices services{&grpc_, &http_};
    services.state = state_.get();
    services.poll = &loop_;
    add_services(services);
    catalog_.emplace(PluginContext{loop_, *logger_, config_.trust_domain, services},
                     catalog_options(role_, loop_, &health_), built_in_plugins());
    catalog_->start(plugins_, plugins_started_.template then<&RoleOf::on_plugins>(this));
  }
  void stop(Done<void> done) override {
    if (proper_ == nullptr) return loop_.post([d = std::move(done)]() mutable { d({}); });
    end(std::move(done));
  }
  Logger& logger() override { return *logger_; }
  [[nodiscard]] const Health& health() const override { return health_; }
  [[nodiscard]] const char* name() const override { return name_; }
  void reload(const Config& next) override {
    const Config_& fresh = *role_of(next);
    ReloadedKeys keys = limpet::reload(config_, fresh);
    if (!same_plugins(plugins_, plugins_of(next))) keys.refused.emplace_back("plugin");
    if (const auto level = parse_log_level(config_.log.level); level && logger_->launch_level() != *level) {
      logger_->set_launch_level(*level);
      logger_->set_level(*level);
    }
    if (proper_ != nullptr) proper_->reload(config_);
    logger_->info("Configuration reloaded", {{"role", name_}, {"changed", list_of(keys.taken)}});
    if (keys.refused.empty()) return;
    logger_->warn("Keys that changed in the configuration are in force only after a restart",
                  {{"role", name_}, {"keys", list_of(keys.refused)}});
  }

 protected:
  virtual const char* store_name() const = 0;
  virtual void add_services(HostServices& services) = 0;  // of this role alone; the store is open
  virtual const std::optional<Config_>& role_of(const Config& config) const = 0;
  virtual std::vector<PluginConfig> plugins_of(const Config& config) const { return config.plugins; }
  virtual std::unique_ptr<Proper> build() = 0;
  virtual void begin(Done<void> done) = 0;
  virtual void end(Done<void> done) = 0;

  UvLoop& loop_;
  const Clock& clock_;
  std::unique_ptr<Logger> logger_;
  Health health_;
  Metrics metrics_;
  Config_ config_;
  std::vector<PluginConfig> plugins_;
  const char* name_;
  std::unique_ptr<Store> store_;
  const PluginRole role_;
  SpiffeCaller grpc_;  // this and the next five: for plugins
  WireHttpCaller http_;
  std::unique_ptr<AgentLookup> agents_;
  std::unique_ptr<DeviceLookup> devices_;
  std::unique_ptr<PrivateState> state_;
  IdentityBoard identity_;
  std::optional<Catalog> catalog_;
  std::unique_ptr<Proper> proper_;

 private:
  Result<void> open_store() {
    TRY(make_directories(config_.data_dir));
    TRY_ASSIGN(store_, Store::open(loop_, {.path = config_.data_dir + "/" + store_name()}));
    if (!store_->damage().empty()) {
      logger_->error("State was damaged", {{"error", store_->damage()}});
      health_.report("store", HealthState::degraded, store_->damage());
    }
    return {};
  }
  Result<void> open_health() {
    if (!config_.health_checks.listener_enabled) return {};
    TRY_ASSIGN(health_listener_, HealthListener::open(loop_, clock_, health_, config_.health_checks));
    return {};
  }
  Result<void> open_metrics() {
    if (!metrics_.on()) return {};
    tell_started(metrics_, loop_, config_.trust_domain);
    TRY_ASSIGN(metrics_listener_, MetricsListener::open(loop_, clock_, metrics_, config_.telemetry));
    return {};
  }
  void fail_later(Error error) {
    loop_.post([this, e = std::move(error)]() mutable { done_(std::unexpected(std::move(e))); });
  }
  void on_plugins(Result<void> started) {
    if (!started) return done_(std::move(started));
    proper_ = build();
    begin(std::move(done_));
  }

  std::unique_ptr<HealthListener> health_listener_;
  std::unique_ptr<MetricsListener> metrics_listener_;
  Pending<void> plugins_started_;
  Done<void> done_;
};

#ifdef LIMPET_SERVER
class ServerRole final : public RoleOf<ServerConfig, server::Server> {
 public:
  ServerRole(UvLoop& loop, const Clock& clock, std::unique_ptr<Logger> logger, const Config& config)
      : RoleOf(loop, clock, std::move(logger), *config.server, config.plugins, PluginRole::server) {}

 private:
  const char* store_name() const override { return "server.mdb"; }
  void add_services(HostServices& services) override {
    agents_ = std::make_unique<server::StoredAgents>(loop_, *store_);
    services.agents = agents_.get();
    devices_ = std::make_unique<server::StoredDevices>(loop_, *store_);
    services.devices = devices_.get();
    services.identity = &identity_;
  }
  const std::optional<ServerConfig>& role_of(const Config& config) const override { return config.server; }
  std::unique_ptr<server::Server> build() override {
    server::ServerParts parts{clock_,
                              *logger_,
                              health_,
                              *store_,
                              *catalog_->key_manager(),
                              {},
                              catalog_->upstream_authority(),
                              nullptr,
                              &identity_,
                              metrics_,
                              catalog_->bundle_publishers()};
    for (const PluginConfig& plugin : plugins_) {
      if (plugin.type != "NodeAttestor" || plugin.role == "agent") continue;
      if (auto* attestor = catalog_->node_attestor_server(plugin.name)) parts.attestors.push_back(attestor);
    }
    return std::make_unique<server::Server>(loop_, parts, config_);
  }
  void begin(Done<void> done) override { proper_->start(std::move(done)); }
  void end(Done<void> done) override { proper_->stop(std::move(done)); }
};
#endif

#ifdef LIMPET_AGENT
class AgentRole final : public RoleOf<AgentConfig, agent::Agent> {
 public:
  AgentRole(UvLoop& loop, const Clock& clock, std::unique_ptr<Logger> logger, const Config& config)
      : RoleOf(loop, clock, std::move(logger), *config.agent, with_join_token(config.plugins, *config.agent),
               PluginRole::agent) {}

 private:
  const char* store_name() const override { return "agent.mdb"; }
  void add_services(HostServices&) override {}
  const std::optional<AgentConfig>& role_of(const Config& config) const override { return config.agent; }
  std::vector<PluginConfig> plugins_of(const Config& config) const override {
    return with_join_token(config.plugins, *config.agent);
  }
  std::unique_ptr<agent::Agent> build() override {
    agent::AgentParts parts{loop_,
                            clock_,
                            *logger_,
                            health_,
                            *store_,
                            *catalog_->key_manager(),
                            *catalog_->node_attestor_agent(),
                            catalog_->workload_attestors(),
                            metrics_,
                            catalog_->sealer()};
    return std::make_unique<agent::Agent>(std::move(parts), config_);
  }
  void begin(Done<void> done) override {
    loop_.post([result = proper_->start(), d = std::move(done)]() mutable { d(std::move(result)); });
  }
  void end(Done<void> done) override { proper_->stop(kStopMs, std::move(done)); }
};
#endif

// What main builds of a configuration: the daemon and its roles.
Result<void> add_roles(Daemon& daemon, const Config& config) {
  if (config.server) {
#ifdef LIMPET_SERVER
    TRY_ASSIGN(auto logger, open_logger(config.server->log, daemon.clock()));
    daemon.add(std::make_unique<ServerRole>(daemon.loop(), daemon.clock(), std::move(logger), config));
#else
    return fail(Code::unimplemented, "this binary was built without the server role");
#endif
  }
  if (config.agent) {
#ifdef LIMPET_AGENT
    TRY_ASSIGN(auto logger, open_logger(config.agent->log, daemon.clock()));
    daemon.add(std::make_unique<AgentRole>(daemon.loop(), daemon.clock(), std::move(logger), config));
#else
    return fail(Code::unimplemented, "this binary was built without the agent role");
#endif
  }
  return daemon.follow_signals();
}

// A service manager's soft limit is often 1,024: two descriptors a connection are soon gone.
void raise_file_limit() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  constexpr rlim_t kEnough = 16'384;
  if (files.rlim_cur >= kEnough) return;
  files.rlim_cur = files.rlim_max == RLIM_INFINITY ? kEnough : std::min(kEnough, files.rlim_max);
  (void)::setrlimit(RLIMIT_NOFILE, &files);
}

int run(const Config& config, const cli::ReloadConfig& reload) {
  raise_file_limit();
#ifdef __GLIBC__
  // One heap for all threads: glibc's default, one for each, costs a megabyte here; allocations off the loop are few.
  (void)mallopt(M_ARENA_MAX, 1);
#endif
  Daemon daemon(reload);
  if (const auto built = add_roles(daemon, config); !built) {
    std::fprintf(stderr, "Error: %s\n", built.error().message.c_str());
    return 1;
  }
  return daemon.run();
}

// A dry run of every plugin of one role.
class Check {
 public:
  Result<void> plugins(const std::vector<PluginConfig>& plugins, const std::string& trust_domain, PluginRole role) {
    Catalog catalog({loop_, Logger::none(), trust_domain}, catalog_options(role, loop_, nullptr), built_in_plugins());
    catalog.validate(plugins, checked_.then<&Check::on_checked>(this));
    loop_.run();
    return result_;
  }

 private:
  void on_checked(Result<void> result) {
    result_ = std::move(result);
    loop_.stop();
  }
  UvLoop loop_;
  Pending<void> checked_;
  Result<void> result_;
};

Result<void> check(const Config& config) {
  if (config.server) TRY(Check().plugins(config.plugins, config.server->trust_domain, PluginRole::server));
  if (config.agent) {
    TRY(Check().plugins(with_join_token(config.plugins, *config.agent), config.agent->trust_domain, PluginRole::agent));
  }
  return {};
}

// Opens a role's key manager alone, and makes a key and a CSR in it.
class CsrMaker {
 public:
  CsrMaker(const std::string& trust_domain, PluginRole role, const cli::CsrRequest& request)
      : catalog_({loop_, log_, trust_domain}, keys_only(role, loop_), built_in_plugins()) {
    wish_.key_id = std::string(kPluginKeyPrefix) + request.key_id;
    wish_.type = request.type;
    wish_.subject = encode_name({{kOidCommonName, request.common_name}});
    wish_.dns_names = request.dns_names;
    wish_.keep = !request.replace;
  }
  Result<Bytes> run(const std::vector<PluginConfig>& plugins) {
    catalog_.start(plugins, started_.then<&CsrMaker::on_started>(this));
    loop_.run();
    return std::move(result_);
  }

 private:
  static Catalog::Options keys_only(PluginRole role, UvLoop& loop) {
    Catalog::Options options = catalog_options(role, loop, nullptr);
    options.keys_only = true;
    return options;
  }
  void on_started(Result<void> started) {
    if (!started) return end(fail(std::move(started).error()));
    flow_.emplace(*catalog_.key_manager());
    flow_->start(std::move(wish_), made_.then<&CsrMaker::on_made>(this));
  }
  void on_made(Result<KeyAndCsr> made) {
    if (!made) return end(fail(std::move(made).error()));
    end(std::move(made->csr));
  }
  void end(Result<Bytes> result) {
    result_ = std::move(result);
    loop_.stop();
  }

  UvLoop loop_;
  Logger& log_ = Logger::none();
  Catalog catalog_;
  CsrWish wish_;
  std::optional<KeyCsrFlow> flow_;
  Pending<void> started_;
  Pending<KeyAndCsr> made_;
  Result<Bytes> result_ = fail(Code::internal, "nothing happened");
};

Result<Bytes> make_key_csr(const Config& config, const cli::CsrRequest& request) {
  if (request.server) return CsrMaker(config.server->trust_domain, PluginRole::server, request).run(config.plugins);
  return CsrMaker(config.agent->trust_domain, PluginRole::agent, request).run(config.plugins);
}

Result<PluginDescription> describe(const std::string& path, const std::string& sha256) {
  return shim::Component::describe({}, path, sha256);
}

std::vector<PluginDescription> built_in() {
  std::vector<PluginDescription> out;
  for (const StaticPlugin& plugin : built_in_plugins()) {
    if (const auto opened = open_plugin(plugin.main, plugin.name)) out.push_back(description_of(**opened));
  }
  return out;
}

unsigned program_of(std::string_view path) {
  const auto name = path.substr(path.rfind('/') + 1);
  if (name == "spire-server") return cli::kServer;
  if (name == "spire-agent") return cli::kAgent;
  return cli::kLimpet;
}

}  // namespace
}  // namespace limpet

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  const limpet::cli::Runner runner{limpet::run, limpet::check, limpet::make_key_csr, limpet::describe,
                                   limpet::built_in};
  return limpet::cli::dispatch(limpet::program_of(argv[0]), {argv + 1, argv + argc}, runner);
}
