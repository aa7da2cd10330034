// SPDX-License-Identifier: Apache-2.0
// Which tests run when, and where.
#include "plugin_check/runner.h"

#include <sys/wait.h>

#include <algorithm>
#include <filesystem>

#include "plugin/loader.h"
#include "plugin_check/child.h"

namespace limpet::check {
namespace {

constexpr const char* kBabble = "what its process said cannot be understood";
constexpr int64_t kLoadMs = 10'000;  // as long as the daemon's first look

std::vector<const TestCase*> all_tests() {
  std::vector<const TestCase*> out;
  for (const auto tests : {library_tests(), instance_tests(), op_tests(), key_manager_tests(), workload_tests(),
                           node_attestor_tests(), authority_tests(), fuzz_tests()}) {
    for (const TestCase& test : tests) out.push_back(&test);
  }
  return out;
}

struct Planned {
  const TestCase* test = nullptr;
  const Component* component = nullptr;
  TestResult result;
  enum class State { waiting, running, finished } state = State::waiting;
  Child child;
  std::string directory;
};

// Of what does no more than load the plugin, so that one which hangs there is known soon.
int64_t load_limit_ms(const Options& o) { return std::max(kLoadMs, o.patience_ms); }

std::string make_directory() {
  std::string path = (std::filesystem::temp_directory_path() / "limpet-plugin-check-XXXXXX").string();
  return ::mkdtemp(path.data()) == nullptr ? std::string() : path;
}

bool has_children() {
  siginfo_t one = {};
  return ::waitid(P_ALL, 0, &one, WEXITED | WNOHANG | WNOWAIT) == 0;  // else ECHILD
}

// The test itself, in whatever process this is; `check` outlives it.
Outcome run_here(const Options& o, const Carrier& carrier, const TestCase& test, const Component* component,
                 const std::string& directory, Check& check) {
  check.path = o.path;
  check.directory = directory;
  check.seed = o.seed;
  check.fuzz_ms = o.fuzz_ms;
  check.cycles = o.cycles;
  check.patience_ms = o.patience_ms;
  check.trust_domain = o.config.trust_domain;
  check.all = &o.config;
  if (!test.unloaded) {
    const auto opened = carrier.open(check);
    if (!opened) {
      check.fail(opened.error().message);
      return check.outcome();
    }
    check.plugin = *opened;
    check.component = find_component(**opened, component->interface_id, component->name);
    check.config = o.config.of(component->interface_id, component->name);
    if (check.component == nullptr) {
      check.fail("the component is not there");
      return check.outcome();
    }
  }
  test.run(check);
  // A process of the shim ends in its own time: cut short, it would leave the next test a device that is still in use.
  // One whose test went wrong was perhaps never told to.
  if (component != nullptr) check.bench().run_until([] { return !has_children(); }, check.failed() ? 300 : 3'000);
  return check.outcome();
}

// What a child said of its test: a digit and the message.
Outcome outcome_of(const Ending& ending) {
  if (ending.said.empty()) return ending.silent;
  const auto status = static_cast<size_t>(static_cast<unsigned char>(ending.said[0]) - '0');
  if (status > static_cast<size_t>(Status::crashed)) return {Status::crashed, kBabble};
  return {static_cast<Status>(status), ending.said.substr(1)};
}

int64_t limit_of(const Options& o, const TestCase& test) { return test.once ? load_limit_ms(o) : o.test_ms; }

// False: it runs.
bool collected(const Options& o, Planned& p) {
  const auto ending = collect(p.child, limit_of(o, *p.test));
  if (!ending) return false;
  p.result.outcome = outcome_of(*ending);
  p.result.output = ending->output;
  p.result.took_ms = ending->took_ms;
  p.state = Planned::State::finished;
  return true;
}

bool wanted(const Options& o, const std::string& name) {
  const auto hit = [&](const std::string& pattern) { return matches(pattern, name); };
  if (!o.only.empty() && std::ranges::none_of(o.only, hit)) return false;
  return std::ranges::none_of(o.exclude, hit);
}

std::vector<Planned> plan(const Options& o, const std::vector<Component>& components, const std::string& prefix) {
  std::vector<Planned> out;
  const auto add = [&](const TestCase& test, const Component* component) {
    Planned p;
    p.test = &test;
    p.component = component;
    p.result.test = prefix + test.name;
    p.result.rule = test.rule;
    if (component != nullptr) p.result.component = component->label();
    out.push_back(std::move(p));
  };
  for (const TestCase* test : all_tests()) {
    if (test->once && wanted(o, prefix + test->name)) add(*test, nullptr);
  }
  for (const Component& component : components) {
    for (const TestCase* test : all_tests()) {
      if (test->once || (test->kinds & of_kind(kind_of(component.interface_id))) == 0) continue;
      if (wanted(o, prefix + test->name)) add(*test, &component);
    }
  }
  return out;
}

// What stands in the way of a test: empty, "wait", or why it is skipped.
std::string obstacle(const Options& o, const std::vector<Planned>& all, const Planned& p) {
  if (p.component != nullptr) {
    const ComponentConfig config = o.config.of(p.component->interface_id, p.component->name);
    if (const auto reason = config.skip.find(p.test->name); reason != config.skip.end()) return reason->second;
    if (p.test->present && !config.absent.empty()) return config.absent;
  }
  for (const char* need : p.test->needs) {
    for (const Planned& other : all) {
      if (std::string_view(other.test->name) != need) continue;
      if (other.component != nullptr && other.component != p.component) continue;
      if (other.state != Planned::State::finished) return "wait";
      if (went_wrong(other.result.outcome)) return std::string(need) + " went wrong";
      // what was skipped because something before it went wrong
      if (other.result.outcome.status == Status::skipped && other.result.outcome.message.ends_with("went wrong"))
        return other.result.outcome.message;
    }
  }
  return {};
}

void finish(const Options& o, Planned& p) {
  const bool wrong = went_wrong(p.result.outcome);
  if (wrong && std::string_view(p.test->name).starts_with("fuzz."))
    p.result.outcome.message += ", seed " + std::to_string(o.seed);
  if (!wrong) p.result.output.clear();
  std::error_code none;
  if (!p.directory.empty()) std::filesystem::remove_all(p.directory, none);
}

void begin(const Options& o, const Carrier& carrier, Planned& p) {
  p.directory = make_directory();
  if (!o.forked) {
    Check check;
    p.result.outcome = run_here(o, carrier, *p.test, p.component, p.directory, check);
    p.state = Planned::State::finished;
    return finish(o, p);
  }
  p.state = Planned::State::running;
  spawn(p.child, [&] {
    // Not destroyed: what it holds ends with the process, and a plugin that does not let go is not waited for again.
    auto* check = new Check;
    const Outcome outcome = run_here(o, carrier, *p.test, p.component, p.directory, *check);
    return std::to_string(static_cast<int>(outcome.status)) + outcome.message;
  });
}

}  // namespace

Carrier in_process() {
  return {"in process", [](Check& check) -> Result<const limpet_plugin*> { return map_plugin_at(check.path); }};
}

bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*') {
    for (size_t skip = 0; skip <= name.size(); ++skip) {
      if (matches(pattern.substr(1), name.substr(skip))) return true;
    }
    return false;
  }
  return !name.empty() && pattern[0] == name[0] && matches(pattern.substr(1), name.substr(1));
}

namespace {

// "=" and each id and name with its NUL, which neither can have, or "!" and why there is nothing to list.
std::string list_components(const Options& o, const Carrier& carrier) {
  Check check;
  check.path = o.path;
  const auto opened = carrier.open(check);
  if (!opened) return "!" + opened.error().message;
  std::string out = "=";
  for (size_t i = 0; (*opened)->components[i] != nullptr; ++i) {
    const limpet_component& c = *(*opened)->components[i];
    out.append(c.interface_id).append(1, '\0').append(c.name).append(1, '\0');
  }
  return out;
}

Result<std::vector<Component>> parse_components(const std::string& said) {
  if (said[0] == '!') return fail(Code::failed_precondition, said.substr(1));
  std::vector<Component> out;
  for (size_t at = 1; at < said.size();) {
    const size_t middle = said.find('\0', at);
    const size_t end = middle == said.npos ? said.npos : said.find('\0', middle + 1);
    if (said[0] != '=' || end == said.npos) return fail(Code::failed_precondition, kBabble);
    out.push_back({said.substr(at, middle - at), said.substr(middle + 1, end - middle - 1)});
    at = end + 1;
  }
  if (out.empty()) return fail(Code::failed_precondition, kBabble);  // the loader takes none without
  return out;
}

}  // namespace

Result<std::vector<Component>> components_of(const Options& o, const Carrier& carrier) {
  if (!o.forked) return parse_components(list_components(o, carrier));
  Child child;
  spawn(child, [&] { return list_components(o, carrier); });
  std::optional<Ending> ending;
  while (!(ending = collect(child, load_limit_ms(o)))) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (ending->said.empty())
    return fail(Code::failed_precondition, "the process that loaded it: " + ending->silent.message);
  return parse_components(ending->said);
}

TestResult unloadable(const Error& why) {
  const auto& load = *std::ranges::find(library_tests(), std::string_view("library.load"),
                                        [](const TestCase& test) { return std::string_view(test.name); });
  TestResult out;
  out.test = load.name;
  out.rule = load.rule;
  out.outcome = {Status::failed, why.message};
  return out;
}

bool wants_components(const Options& o) {
  return std::ranges::any_of(all_tests(), [&](const TestCase* test) {
    return !test->once && (wanted(o, test->name) || wanted(o, std::string("parity.") + test->name));
  });
}

namespace {

std::vector<TestResult> run_planned(const Options& o, std::vector<Planned> all, const Carrier& carrier,
                                    const std::function<void(const TestResult&)>& tell) {
  size_t told = 0;
  while (told < all.size()) {
    int running = 0;
    for (Planned& p : all) {
      if (p.state == Planned::State::running && collected(o, p)) finish(o, p);
      if (p.state == Planned::State::running) ++running;
    }
    for (Planned& p : all) {
      if (running >= o.jobs) break;
      if (p.state != Planned::State::waiting) continue;
      const std::string why = obstacle(o, all, p);
      if (why == "wait") continue;
      if (why.empty()) {
        begin(o, carrier, p);
        if (p.state == Planned::State::running) ++running;
        continue;
      }
      p.result.outcome = {Status::skipped, why};
      p.state = Planned::State::finished;
    }
    for (; told < all.size() && all[told].state == Planned::State::finished; ++told) tell(all[told].result);
    if (told < all.size() && running > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::vector<TestResult> out;
  for (Planned& p : all) out.push_back(std::move(p.result));
  return out;
}

}  // namespace

std::vector<TestResult> run_all(const Options& o, const std::vector<Component>& components, const Carrier& carrier,
                                const std::function<void(const TestResult&)>& tell) {
  return run_planned(o, plan(o, components, ""), carrier, tell);
}

std::vector<TestResult> run_again(const Options& o, const std::vector<Component>& components, const Carrier& carrier,
                                  const std::vector<TestResult>* here,
                                  const std::function<void(const TestResult&)>& tell) {
  const auto went_well = [&](const Planned& p) {
    return here == nullptr || std::ranges::any_of(*here, [&](const TestResult& r) {
             return p.result.test == "parity." + r.test && r.component == p.result.component &&
                    (r.outcome.status == Status::success || r.outcome.status == Status::warning);
           });
  };
  std::vector<Planned> again = plan(o, components, "parity.");
  std::erase_if(again, [&](const Planned& p) { return p.component == nullptr || !went_well(p); });
  return run_planned(o, std::move(again), carrier, tell);
}

}  // namespace limpet::check
