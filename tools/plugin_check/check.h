// SPDX-License-Identifier: Apache-2.0
#pragma once
// One test of one plugin, and the list of all tests. A test runs in a process of its own, so it may do what it likes to
// the process, and so may the plugin.

#include <span>

#include "plugin_check/calls.h"

namespace limpet::check {

enum class Status { success, warning, skipped, failed, crashed };
const char* status_name(Status status);

struct Outcome {
  Status status = Status::success;
  std::string message;
};
inline bool went_wrong(const Outcome& o) { return o.status == Status::failed || o.status == Status::crashed; }

// What the author tells of one component. {tmp} in data and its like is a fresh folder.
struct ComponentConfig {
  std::string interface_id;
  std::string name;
  std::string data = "{}";
  std::string other;                        // another valid configuration
  std::string second;                       // of a second instance beside the first, where that must be another one
  std::vector<std::string> bad;             // invalid ones
  std::string absent;                       // why what it stands on is not there: calls may fail then
  std::map<std::string, std::string> skip;  // test: reason
};
// What a plugin that runs out of process may reach; see the option `isolation` of the host.
struct ShimConfig {
  bool network = false;
  std::vector<std::string> devices;
  std::vector<std::string> read_paths;
  std::vector<std::string> write_paths;
};
struct Config {
  ShimConfig shim;
  std::string trust_domain = "example.org";
  std::vector<ComponentConfig> components;
  static Result<Config> parse(std::string_view json);
  [[nodiscard]] ComponentConfig of(const std::string& interface_id, const std::string& name) const;
};

inline constexpr int64_t kPatienceMs = 20'000;  // as long as nobody says otherwise

class Check {
 public:
  std::string path;       // of the shared object
  std::string directory;  // {tmp}
  uint64_t seed = 1;
  int64_t fuzz_ms = 2'000;
  int cycles = 200;
  int64_t patience_ms = kPatienceMs;  // for an answer
  std::string trust_domain;
  const limpet_plugin* plugin = nullptr;
  const limpet_component* component = nullptr;
  ComponentConfig config;       // the component's
  const Config* all = nullptr;  // the other components' too

  void fail(std::string why);  // the first one counts
  void warn(std::string why);
  void skip(std::string why);
  void note(std::string what);  // said with a success
  [[nodiscard]] bool failed() const { return outcome_.status == Status::failed; }
  [[nodiscard]] const Outcome& outcome() const { return outcome_; }

  Bench& bench();
  std::shared_ptr<void> carried;  // what the carrier keeps for the plugin
  // A configured instance; nullptr after fail().
  Subject* ready(Offer offer = Offer::everything, const limpet_component* other = nullptr,
                 const std::string* data = nullptr);
  Subject* ready_beside();  // a second instance beside the first
  // Waits as long as patience lasts, or `ms` where that is known to take longer, in the same proportion; false after
  // fail() when there was no answer.
  bool answered(Subject& s, const Op& op, const char* what, int64_t ms = 0);
  // Waits; false after fail() when it was not a success.
  bool succeeded(Subject& s, const Op& op, const char* what, int64_t ms = 0);
  bool destroyed(Subject& s);
  // The other half of a node attestor, in this plugin; nullptr: it has none.
  const limpet_component* other_half() const;
  [[nodiscard]] std::string expand(const std::string& data) const;

 private:
  Outcome outcome_;
  std::unique_ptr<Bench> bench_;
  std::list<Subject> subjects_;
};

constexpr uint32_t of_kind(Kind kind) { return 1u << static_cast<uint32_t>(kind); }
inline constexpr uint32_t kEveryKind = ~0u;

struct TestCase {
  const char* name;  // "group.what"
  const char* rule;  // what is right, in one sentence
  void (*run)(Check& check);
  std::vector<const char*> needs = {};  // tests that must not have failed
  uint32_t kinds = kEveryKind;
  bool once = false;      // of the library, not of each component
  bool unloaded = false;  // runs before the object is loaded
  bool present = false;   // needs what the component stands on
};

std::span<const TestCase> library_tests();
std::span<const TestCase> instance_tests();
std::span<const TestCase> op_tests();
std::span<const TestCase> key_manager_tests();
std::span<const TestCase> workload_tests();
std::span<const TestCase> node_attestor_tests();
std::span<const TestCase> authority_tests();  // sealers, upstream authorities, publishers
std::span<const TestCase> fuzz_tests();

}  // namespace limpet::check
