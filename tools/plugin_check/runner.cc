// SPDX-License-Identifier: Apache-2.0
// Children, and what became of them.
#include "plugin_check/runner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "crypto/key.h"
#include "plugin/loader.h"
#include "plugin_check/resources.h"

namespace limpet::check {
namespace {

constexpr size_t kOutputBytes = 4'000;  // of what a test's process wrote: the end

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
  pid_t pid = -1;
  int answer = -1;  // the pipe's end
  int output = -1;  // a memfd
  std::string directory;
  Clock::time_point began = {};
};

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
  if (component != nullptr) check.bench().run_until([] { return !has_children(); }, 3'000);
  return check.outcome();
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote <= 0) return;
    text.remove_prefix(static_cast<size_t>(wrote));
  }
}

std::string read_all(int fd) {
  std::string out;
  char block[4096];
  for (ssize_t got = 0; (got = ::read(fd, block, sizeof block)) > 0;) out.append(block, static_cast<size_t>(got));
  return out;
}

// Forks; the child runs `work` and says what it returned. Its output goes to a file in memory.
void spawn(Planned& p, const std::function<std::string()>& work) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  p.output = ::memfd_create("output", MFD_CLOEXEC);
  p.began = Clock::now();
  std::fflush(nullptr);
  p.pid = ::fork();
  if (p.pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(p.output, STDOUT_FILENO);
    ::dup2(p.output, STDERR_FILENO);
    write_all(ends[1], work());
    ::_exit(0);  // nothing of the plugin's runs any more, and no leak checker
  }
  ::close(ends[1]);
  p.answer = ends[0];
  ::fcntl(p.answer, F_SETFL, O_NONBLOCK);
}

std::string end_of(int output) {
  const off_t size = ::lseek(output, 0, SEEK_END);
  const off_t from = std::max<off_t>(0, size - static_cast<off_t>(kOutputBytes));
  ::lseek(output, from, SEEK_SET);
  std::string out = read_all(output);
  while (!is_utf8(out)) {  // cut in the middle of a character, or never text
    const auto bad = std::ranges::find_if(out, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
    *bad = '?';
  }
  return out;
}

// Collects a child that has ended, or has had its time. False: it runs.
bool collect(Planned& p, int64_t limit_ms) {
  int status = 0;
  const bool late = Clock::now() - p.began > std::chrono::milliseconds(limit_ms);
  if (late) ::kill(p.pid, SIGKILL);
  if (::waitpid(p.pid, &status, late ? 0 : WNOHANG) != p.pid) return false;
  const std::string said = read_all(p.answer);
  p.result.output = end_of(p.output);
  p.result.took_ms = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - p.began).count();
  ::close(p.answer);
  ::close(p.output);
  p.state = Planned::State::finished;
  if (!said.empty()) {
    p.result.outcome = {static_cast<Status>(said[0] - '0'), said.substr(1)};
  } else if (late) {
    p.result.outcome = {Status::failed, "it did not end within " + std::to_string(limit_ms / 1000) + " s"};
  } else if (WIFSIGNALED(status)) {
    p.result.outcome = {Status::crashed, std::string("ended by signal ") + std::to_string(WTERMSIG(status)) + " (" +
                                             ::strsignal(WTERMSIG(status)) + ")"};
  } else {
    p.result.outcome = {Status::crashed, "the process ended with code " + std::to_string(WEXITSTATUS(status))};
  }
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
      const Status status = other.result.outcome.status;
      if (status == Status::failed || status == Status::crashed) return std::string(need) + " went wrong";
      // what was skipped because something before it went wrong
      if (status == Status::skipped && other.result.outcome.message.ends_with("went wrong"))
        return other.result.outcome.message;
    }
  }
  return {};
}

void finish(const Options& o, Planned& p) {
  const bool wrong = p.result.outcome.status == Status::failed || p.result.outcome.status == Status::crashed;
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
  spawn(p, [&] {
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

Result<std::vector<Component>> components_of(const Options& o, const Carrier& carrier) {
  const auto ask = [&]() -> std::string {
    Check check;
    check.path = o.path;
    const auto opened = carrier.open(check);
    if (!opened) return "!" + opened.error().message;
    std::string out = "=";
    for (size_t i = 0; (*opened)->components[i] != nullptr; ++i) {
      const limpet_component& c = *(*opened)->components[i];
      out += std::string(c.interface_id) + "\n" + c.name + "\n";
    }
    return out;
  };
  std::string said;
  if (o.forked) {
    Planned p;
    spawn(p, ask);
    ::fcntl(p.answer, F_SETFL, 0);
    said = read_all(p.answer);
    int status = 0;
    ::waitpid(p.pid, &status, 0);
    ::close(p.answer);
    ::close(p.output);
  } else {
    said = ask();
  }
  if (said.empty()) return fail(Code::failed_precondition, "the process ended while the object was loaded");
  if (said[0] == '!') return fail(Code::failed_precondition, said.substr(1));
  std::vector<Component> out;
  for (size_t at = 1; at < said.size();) {
    const size_t middle = said.find('\n', at);
    const size_t end = said.find('\n', middle + 1);
    out.push_back({said.substr(at, middle - at), said.substr(middle + 1, end - middle - 1)});
    at = end + 1;
  }
  return out;
}

namespace {

std::vector<TestResult> run_planned(const Options& o, std::vector<Planned> all, const Carrier& carrier,
                                    const std::function<void(const TestResult&)>& tell) {
  size_t told = 0;
  while (told < all.size()) {
    int running = 0;
    for (Planned& p : all) {
      if (p.state == Planned::State::running && collect(p, o.test_ms)) finish(o, p);
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
                                  const std::vector<TestResult>& here,
                                  const std::function<void(const TestResult&)>& tell) {
  const auto went_well = [&](const Planned& p) {
    return std::ranges::any_of(here, [&](const TestResult& r) {
      return p.result.test == "parity." + r.test && r.component == p.result.component &&
             (r.outcome.status == Status::success || r.outcome.status == Status::warning);
    });
  };
  std::vector<Planned> again = plan(o, components, "parity.");
  std::erase_if(again, [&](const Planned& p) { return p.component == nullptr || !went_well(p); });
  return run_planned(o, std::move(again), carrier, tell);
}

}  // namespace limpet::check
