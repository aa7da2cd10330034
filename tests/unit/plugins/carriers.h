// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs a test of a shipped plugin twice: linked in, and loaded with dlopen from the shared object made of the same
// sources. Whatever holds for one must hold for the other.

#include <gtest/gtest.h>
#include <limpet_plugin.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "crypto/key.h"
#include "loop/fake_loop.h"
#include "plugin/instance.h"
#include "plugin/loader.h"

namespace limpet::test {

enum class Carrier { built_in, shared_object };
inline std::string carrier_name(const ::testing::TestParamInfo<Carrier>& info) {
  return info.param == Carrier::built_in ? "BuiltIn" : "SharedObject";
}
#define BOTH_CARRIERS(Fixture) \
  INSTANTIATE_TEST_SUITE_P(Both, Fixture, ::testing::Values(Carrier::built_in, Carrier::shared_object), carrier_name)

// Each shared object is loaded once: what is loaded stays.
inline const limpet_plugin* open_shipped(Carrier carrier, const std::string& folder) {
  if (carrier == Carrier::built_in) {
    for (const StaticPlugin& plugin : built_in_plugins()) {
      if (plugin.name == folder) return *open_plugin(plugin.main, folder);
    }
    return nullptr;
  }
  static std::map<std::string, const limpet_plugin*> loaded;
  const auto place = loaded.find(folder);
  if (place != loaded.end()) return place->second;
  const std::string path = LIMPET_PLUGINS "/" + folder + ".so";
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto plugin = load_plugin_file(path, hex_encode(sha256(as_bytes(text))));
  EXPECT_TRUE(plugin) << plugin.error().text();
  return loaded[folder] = plugin ? *plugin : nullptr;
}

template <class T>
struct Waiter {
  Done<T> arm() { return pending.template then<&Waiter::on>(this); }
  void on(Result<T> r) { result.emplace(std::move(r)); }
  Pending<T> pending;
  std::optional<Result<T>> result;
};

// A test with a temporary directory and one plugin at a time.
class ShippedPlugin : public ::testing::TestWithParam<Carrier> {
 protected:
  ShippedPlugin() { EXPECT_NE(::mkdtemp(directory.data()), nullptr); }
  ~ShippedPlugin() override { std::filesystem::remove_all(directory); }

  // Starts `call` with a Done and runs the loop until it was answered.
  template <class T, class Call>
  Result<T> wait(Call call) {
    Waiter<T> waiter;
    call(waiter.arm());
    return finish(waiter);
  }
  // What a call that is under way ended with.
  template <typename T>
  Result<T> finish(Waiter<T>& waiter) {
    for (int turn = 0; turn < 60'000 && !waiter.result; ++turn) {
      if (loop.run_ready() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return waiter.result ? std::move(*waiter.result) : Result<T>(fail(Code::deadline_exceeded, "the test gave up"));
  }
  std::shared_ptr<Instance> create(const std::string& folder, std::string_view interface_id, std::string_view prefix) {
    const limpet_plugin* plugin = open_shipped(GetParam(), folder);
    const limpet_component* component = find_component(*plugin, interface_id, "");
    return *Instance::create({loop, Logger::none(), "example.org", services}, *component, prefix);
  }
  Result<void> configure(Instance& instance, const std::string& json, bool dry_run = false) {
    return wait<void>([&](Done<void> done) { instance.configure(json, dry_run, std::move(done)); });
  }
  void write(const std::string& path, std::string_view text) { std::ofstream(path, std::ios::binary) << text; }
  std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(file)), {});
  }

  FakeLoop loop;
  HostServices services;  // of the instances created from now on
  std::string directory = ::testing::TempDir() + "limpet_plugin_XXXXXX";
};

template <class T>
std::string outcome(const Result<T>& result) {
  return result ? "ok" : result.error().text();
}

}  // namespace limpet::test
