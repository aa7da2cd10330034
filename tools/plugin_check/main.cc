// SPDX-License-Identifier: Apache-2.0
// plugin-check: tries a plugin against everything that limpet_plugin.h asks of it. abi/README.md tells authors how.
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>

#include "plugin_check/resources.h"
#include "plugin_check/runner.h"

namespace limpet::check {
namespace {

constexpr const char* kUsage =
    "usage: plugin-check PLUGIN.so [options]\n"
    "  --config FILE       the components' configurations, as JSON (see abi/README.md); without it each gets {}\n"
    "  --format text|json  how results are told; text\n"
    "  --only PATTERN      only these tests: a name, '*' stands for anything; may be repeated\n"
    "  --exclude PATTERN   not these\n"
    "  --seed N            of random calls; 1\n"
    "  --fuzz-seconds N    how long random calls are made of each component; 2\n"
    "  --cycles N          how many lives an instance is given; 200\n"
    "  --patience N        seconds that a call may take; 20\n"
    "  --jobs N            tests at a time; 2. 1 for a device that only one can use\n"
    "  --in-process        no child processes: for a debugger. The first crash ends everything\n"
    "  --shim PROGRAM      what runs the plugin out of process, in its sandbox; limpet-shim\n"
    "  --shim-only         the tests of components out of process only\n"
    "  --list              the tests and their rules\n"
    "exit code: 0 nothing failed or crashed, 1 something did, 2 wrong use\n";

struct Settings {
  Options options;
  bool json = false;
  bool list = false;
};

bool number(const char* text, int64_t least, int64_t& out) {
  const std::string_view all = text;
  const auto [end, error] = std::from_chars(all.data(), all.data() + all.size(), out);
  return error == std::errc() && end == all.data() + all.size() && out >= least;
}

int wrong(const std::string& what) {
  std::fprintf(stderr, "plugin-check: %s\n%s", what.c_str(), kUsage);
  return 2;
}

// One option with its value; empty, or what is wrong.
std::string take(Settings& s, const std::string& name, const char* value) {
  Options& o = s.options;
  int64_t n = 0;
  if (name == "--config") {
    std::error_code none;
    if (!std::filesystem::is_regular_file(value, none)) return std::string("there is no file ") + value;
    auto config = Config::parse(read_whole(value));
    if (!config) return std::string(value) + ": " + config.error().message;
    o.config = std::move(*config);
  } else if (name == "--format") {
    s.json = std::string_view(value) == "json";
    if (!s.json && std::string_view(value) != "text") return "--format is text or json";
  } else if (name == "--only") {
    o.only.emplace_back(value);
  } else if (name == "--exclude") {
    o.exclude.emplace_back(value);
  } else if (name == "--shim") {
    std::error_code none;
    if (!std::filesystem::is_regular_file(value, none)) return std::string("there is no file ") + value;
    o.shim = std::filesystem::absolute(value, none).string();
  } else if (name == "--seed" && number(value, 0, n)) {
    o.seed = static_cast<uint64_t>(n);
  } else if (name == "--fuzz-seconds" && number(value, 0, n)) {
    o.fuzz_ms = n * 1000;
    o.test_ms += o.fuzz_ms;
  } else if (name == "--cycles" && number(value, 1, n)) {
    o.cycles = static_cast<int>(n);
  } else if (name == "--patience" && number(value, 1, n)) {
    o.patience_ms = n * 1000;
  } else if (name == "--jobs" && number(value, 1, n)) {
    o.jobs = static_cast<int>(n);
  } else {
    return "not understood: " + name + " " + value;
  }
  return {};
}

int list() {
  for (const auto tests : {library_tests(), instance_tests(), op_tests(), key_manager_tests(), workload_tests(),
                           node_attestor_tests(), authority_tests(), fuzz_tests()}) {
    for (const TestCase& test : tests) std::printf("%-30s %s\n", test.name, test.rule);
  }
  return 0;
}

int check(const Settings& s) {
  const Options& o = s.options;
  const Carrier here = in_process();
  std::vector<TestResult> results;
  const auto bad = [](const TestResult& r) { return went_wrong(r.outcome); };
  const auto unloaded = [](const TestResult& r) { return r.test == "library.load" && went_wrong(r.outcome); };
  const auto tell = [&](const TestResult& r) {
    if (s.json) return;
    std::fputs(report_line(r).c_str(), stdout);
    std::fflush(stdout);
  };
  // what cannot be loaded is tested as a file only, and fails for it where its components were to be tested
  const auto components = components_of(o, here);
  if (o.shim_only && !components) return wrong(components.error().message);
  if (!o.shim_only) results = run_all(o, components ? *components : std::vector<Component>{}, here, tell);
  if (!components && wants_components(o) && !std::ranges::any_of(results, unloaded)) {
    results.push_back(unloadable(components.error()));
    tell(results.back());
  }
#ifdef LIMPET_SHIM
  if (o.forked && components) {
    const auto again = run_again(o, *components, through_the_shim(o.shim), o.shim_only ? nullptr : &results, tell);
    results.insert(results.end(), again.begin(), again.end());
  }
#endif
  if (s.json) {
    const auto json = report_json(o, results);
    if (!json) {
      std::fprintf(stderr, "plugin-check: %s\n", json.error().message.c_str());
      return 2;
    }
    std::fputs(json->c_str(), stdout);
  } else {
    std::printf("%s\n", report_totals(results).c_str());
  }
  if (results.empty()) return wrong("no test was chosen");
  return std::ranges::any_of(results, bad) ? 1 : 0;
}

int run(int argc, char** argv) {
  Settings s;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--help" || name == "-h") {
      std::fputs(kUsage, stdout);
      return 0;
    }
    if (name == "--in-process") {
      s.options.forked = false;
    } else if (name == "--shim-only") {
      s.options.shim_only = true;
    } else if (name == "--list") {
      s.list = true;
    } else if (name.starts_with("-")) {
      if (i + 1 == argc) return wrong(name + " needs a value");
      if (const std::string what = take(s, name, argv[++i]); !what.empty()) return wrong(what);
    } else if (s.options.path.empty()) {
      s.options.path = name;
    } else {
      return wrong("one plugin at a time");
    }
  }
  if (s.list) return list();
  if (s.options.path.empty()) return wrong("which plugin?");
  std::error_code none;
  s.options.path = std::filesystem::absolute(s.options.path, none).string();
  if (!std::filesystem::is_regular_file(s.options.path, none)) return wrong("there is no file " + s.options.path);
  rlimit files = {};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;  // a plugin that leaks descriptors shall fail the test for that, not others
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  return check(s);
}

}  // namespace
}  // namespace limpet::check

int main(int argc, char** argv) { return limpet::check::run(argc, argv); }
