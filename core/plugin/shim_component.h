// SPDX-License-Identifier: Apache-2.0
#pragma once
// A plugin's component that lives in a child process, with the same struct and the same tables as one that was loaded
// here: whoever has a `const limpet_component&` cannot tell. Each instance of it is one process (plugin/shim_proxy.h,
// shim/README.md). Owned by the Catalog, or by a test; it outlives its instances, the loop outlives it. Loop thread
// only.
//
//   TRY_ASSIGN(auto shimmed, shim::Component::open(loop, settings, path, sha256, LIMPET_KEY_MANAGER, "tpm2"));
//   Instance::create(context, *shimmed, "keymanager");

#include <limpet_plugin.h>

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/limits.h"
#include "loop/uv_loop.h"
#include "plugin/describe.h"
#include "plugin/loader.h"
#include "report/health.h"

namespace limpet::shim {

struct Settings {
  std::string program;       // the child's executable; empty: program_beside_us()
  int64_t look_ms = 10'000;  // for the child that takes the first look at the file
  std::string user;          // a name or a number; empty: "limpet-shim" if there is one, else "nobody"
  bool network = false;
  bool require_sandbox = false;  // a protection that the kernel or our rights do not give is an error
  std::vector<std::string> devices;
  std::vector<std::string> read_paths;
  std::vector<std::string> write_paths;
  Health* health = nullptr;  // told when the plugin keeps dying; null: nobody is
  // Tests only. No sandbox: for a child that carries a sanitizer, whose memory and calls no policy foresees.
  bool sandbox = true;
  int64_t ping_every_ms = 5'000;
  int64_t start_ms = limits::kPluginConfigureMs;  // for a child, until it is configured
  int64_t restart_first_ms = 100;                 // doubled with each death, up to a minute
  int64_t grace_ms = 10'000;                      // for a call that was cancelled, and for a ping
};

// limpet-shim: in the executable's own folder, as in a build tree, else where it was installed.
std::string program_beside_us();

class Component : public limpet_component {
 public:
  // Checks the file, lets a throw-away child look at it (it is never mapped here), and finds the component. Waits up to
  // ten seconds for the child: start-up only. A file without that component is no error: found() tells.
  static Result<std::unique_ptr<Component>> open(UvLoop& loop, Settings settings, const std::string& path,
                                                 std::string_view sha256, std::string_view interface_id,
                                                 std::string_view name);
  // What is in a file, from a throw-away child in its sandbox. An empty digest: of whatever stands there.
  static Result<PluginDescription> describe(const Settings& settings, const std::string& path, std::string_view sha256);
  static Result<PluginDescription> describe(const Settings& settings, const PluginFile& file, const std::string& path);

  Component(const Component&) = delete;
  Component& operator=(const Component&) = delete;

  [[nodiscard]] bool found() const { return vtable != nullptr; }
  [[nodiscard]] const PluginDescription& facts() const { return facts_; }
  [[nodiscard]] UvLoop& loop() const { return loop_; }
  [[nodiscard]] const Settings& settings() const { return settings_; }
  [[nodiscard]] int plugin_fd() const { return file_.fd(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  // Before each start of a child: the file is still the one that was checked.
  Result<void> check_file() const { return file_.check_again(path_); }
  [[nodiscard]] Bytes hello(uint32_t services) const;
  // "KeyManager tpm2" in health and logs.
  [[nodiscard]] const std::string& label() const { return label_; }

 private:
  Component(UvLoop& loop, Settings settings) : limpet_component{}, loop_(loop), settings_(std::move(settings)) {}

  void fill(uint32_t flags);  // shim_tables.cc: the struct a host looks at

  UvLoop& loop_;
  Settings settings_;
  mutable PluginFile file_;  // remembers when it was looked at
  PluginDescription facts_;
  std::string path_;
  std::string interface_;
  std::string name_text_;
  std::string label_;
};

// The private service by which create() learns which component it makes an instance of.
inline constexpr const char* kComponentService = "limpet.internal.component";

}  // namespace limpet::shim
