// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs the tests, each in a child process, so that a crash, a hang and whatever else is a result like any other.

#include <functional>

#include "plugin_check/check.h"

namespace limpet::check {

// Where the plugin runs: how a test's process comes by its components. In this process, or through the shim, whose
// proxies are components too.
struct Carrier {
  const char* name;
  std::function<Result<const limpet_plugin*>(Check& check)> open;
};
Carrier in_process();
#ifdef LIMPET_SHIM
// `program`: what runs the plugin there, in its sandbox; empty: this build's limpet-shim.
Carrier through_the_shim(const std::string& program);
#endif

struct Options {
  std::string path;
  Config config;
  std::vector<std::string> only;     // patterns with '*'
  std::vector<std::string> exclude;  //
  bool forked = true;                // false: in this very process, for a debugger
  uint64_t seed = 1;
  int64_t fuzz_ms = 2'000;
  int cycles = 200;
  int64_t patience_ms = kPatienceMs;
  int jobs = 2;
  int64_t test_ms = 120'000;  // longer: failed
  bool keep_output = false;
  std::string shim;        // the program; see through_the_shim()
  bool shim_only = false;  // nothing in process
};

struct TestResult {
  std::string test;
  std::string component;  // "limpet.key-manager/1 disk"; empty: of the library
  std::string rule;
  Outcome outcome;
  std::string output;  // what the process wrote, its end
  int64_t took_ms = 0;
};

struct Component {
  std::string interface_id;
  std::string name;
  [[nodiscard]] std::string label() const { return interface_id + " " + name; }
};
// What the plugin has, found out in a child process.
Result<std::vector<Component>> components_of(const Options& options, const Carrier& carrier);
TestResult unloadable(const Error& why);        // the plugin: library.load, failed
bool wants_components(const Options& options);  // some test of components is among those that are to run

// `tell` is called for each result as soon as it and those before it are there.
std::vector<TestResult> run_all(const Options& options, const std::vector<Component>& components,
                                const Carrier& carrier, const std::function<void(const TestResult&)>& tell);
// Once more elsewhere: the tests of components that went well in `here`, or all where that is null, each as
// "parity.<test>".
std::vector<TestResult> run_again(const Options& options, const std::vector<Component>& components,
                                  const Carrier& carrier, const std::vector<TestResult>* here,
                                  const std::function<void(const TestResult&)>& tell);
bool matches(std::string_view pattern, std::string_view name);  // '*' stands for anything

std::string report_line(const TestResult& result);
Result<std::string> report_json(const Options& options, const std::vector<TestResult>& results);
std::string report_totals(const std::vector<TestResult>& results);

}  // namespace limpet::check
