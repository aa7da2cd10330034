// SPDX-License-Identifier: Apache-2.0
// What a plugin's own process costs: a signature in process and through the shim, the memory of the child, and the life
// of an instance thousands of times over, after which no byte and no descriptor may be missing: exit status 1.
//   shim_bench sign COUNT LIMPET-SHIM PLUGIN.so
//   shim_bench cycles COUNT LIMPET-SHIM PLUGIN.so
// PLUGIN is the key manager of the tests that signs with nothing (tests/abi/mocks/moody.c): what is left is the way.
// One line of key=value each, for tools/bench.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "plugin/key_manager_facade.h"
#include "plugin/shim_component.h"
#include "plugin_bench.h"
#include "support/cycles.h"

namespace limpet {
namespace {

using namespace bench;

constexpr const char* kTunables = "GLIBC_TUNABLES";
constexpr const char* kExact = "glibc.malloc.tcache_count=0";  // see support/cycles.h

// A field of a file of kB lines, of /proc; -1: it is not there, or not ours to read.
long kilobytes(const std::string& path, const char* field) {
  std::FILE* file = std::fopen(path.c_str(), "r");
  char line[256];
  long value = -1;
  while (file != nullptr && std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strncmp(line, field, std::strlen(field)) == 0) value = std::atol(line + std::strlen(field));
  }
  if (file != nullptr) std::fclose(file);
  return value;
}

int only_child() {
  char children[64] = {};
  std::FILE* file = std::fopen(("/proc/self/task/" + std::to_string(::getpid()) + "/children").c_str(), "r");
  if (file == nullptr) return -1;
  if (std::fgets(children, sizeof children, file) == nullptr) children[0] = 0;
  std::fclose(file);
  return std::atoi(children);
}

// The plugin both ways.
struct Both {
  Both(const char* program, const char* path) {
    const std::string digest = digest_of(path);
    local = find_component(*need(load_plugin_file(path, digest)), LIMPET_KEY_MANAGER, "moody");
    if (local == nullptr) give_up(std::string(path) + " is not the plugin of the tests");
    shim::Settings settings;
    settings.program = program;
#ifdef LIMPET_SANITIZED
    settings.sandbox = false;  // a sanitizer's memory and calls fit no policy
#endif
    remote = need(shim::Component::open(loop, settings, path, digest, LIMPET_KEY_MANAGER, "moody"));
    for (const std::string& missing : remote->facts().missing)
      std::fprintf(stderr, "no sandbox: %s\n", missing.c_str());
  }
  UvLoop loop;
  const limpet_component* local = nullptr;
  std::unique_ptr<shim::Component> remote;
};

// ---- sign ----

struct Times {
  double p50, p99;
};

// The instance lives on in `keys`, so that its child can be looked at.
Times sign(UvLoop& loop, const limpet_component& component, int count, std::unique_ptr<KeyManager>& keys) {
  keys = make_key_manager(make_instance(loop, component, "{}"));
  ManagedKey key;
  key.id = "ok";
  key.fingerprint = "f";
  const Bytes digest(32, 7);
  std::vector<double> took;
  for (int i = -count / 10; i < count; ++i) {  // the first tenth warms up
    const auto before = std::chrono::steady_clock::now();
    Await<Bytes> signature(loop);
    keys->sign(key, HashAlg::sha256, digest, signature.done());
    (void)signature.get();
    if (i >= 0)
      took.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - before).count());
  }
  std::ranges::sort(took);
  return {took[took.size() / 2], took[took.size() * 99 / 100]};
}

int signatures(Both& both, int count) {
  std::unique_ptr<KeyManager> keys;
  const Times local = sign(both.loop, *both.local, count, keys);
  const Times remote = sign(both.loop, *both.remote, count, keys);
  const std::string proc = "/proc/" + std::to_string(only_child());
  const long resident = kilobytes(proc + "/status", "VmRSS:");
  if (resident < 0) give_up("the plugin's process cannot be found, so its memory cannot be told");
  std::printf(
      "local_p50_us=%.1f local_p99_us=%.1f shim_p50_us=%.1f shim_p99_us=%.1f added_p50_us=%.1f added_p99_us=%.1f",
      local.p50, local.p99, remote.p50, remote.p99, remote.p50 - local.p50, remote.p99 - local.p99);
  std::printf(" rss_kb=%ld pss_kb=%ld private_kb=%ld\n", resident, kilobytes(proc + "/smaps_rollup", "Pss:"),
              kilobytes(proc + "/status", "RssAnon:"));
  return 0;
}

// ---- cycles ----

bool cycles(const char* what, UvLoop& loop, const limpet_component& component, int count) {
  test::Cycles lives(loop, component);
  if (!lives.warm_up()) give_up(lives.error());
  test::Leaked leaked;
  const auto before = std::chrono::steady_clock::now();
  if (!lives.measure(count, leaked)) give_up(lives.error());
  const double took = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - before).count();
  std::printf("%s_us=%.1f %s_bytes=%lld %s_descriptors=%lld ", what, took / count, what,
              static_cast<long long>(leaked.bytes), what, static_cast<long long>(leaked.descriptors));
  return leaked.bytes == 0 && leaked.descriptors == 0;
}

int lives(Both& both, int count) {
  const bool local = cycles("local", both.loop, *both.local, count);
  const bool remote = cycles("shim", both.loop, *both.remote, count);
  std::puts("");
  if (!local || !remote) std::fputs("shim_bench: something is missing\n", stderr);
  return local && remote ? 0 : 1;
}

}  // namespace
}  // namespace limpet

int main(int argc, char** argv) {
  const std::string what = argc == 5 ? argv[1] : "";
  const int count = argc == 5 ? std::atoi(argv[2]) : 0;
  if ((what != "sign" && what != "cycles") || count < 1) {
    std::fputs("usage: shim_bench sign|cycles COUNT LIMPET-SHIM PLUGIN.so\n", stderr);
    return 2;
  }
  const char* tunables = std::getenv(limpet::kTunables);
  if (what == "cycles" && (tunables == nullptr || std::strstr(tunables, limpet::kExact) == nullptr)) {
    ::setenv(limpet::kTunables, limpet::kExact, 1);
    ::execv("/proc/self/exe", argv);
    limpet::bench::give_up("it cannot start itself again");
  }
  limpet::Both both(argv[3], argv[4]);
  return what == "sign" ? limpet::signatures(both, count) : limpet::lives(both, count);
}
