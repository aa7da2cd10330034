// SPDX-License-Identifier: Apache-2.0
// What a plugin's own process costs: a signature in process and through the shim, the memory of the child, and the life
// of an instance ten thousand times over, after which no byte and no descriptor may be missing.
//   shim_bench LIMPET-SHIM PLUGIN.so
#include <dirent.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "crypto/key.h"
#include "plugin/key_manager_facade.h"
#include "plugin/shim_component.h"

namespace limpet {
namespace {

constexpr int kSigns = 20'000;
constexpr int kCycles = 10'000;
constexpr int kShimCycles = 1'000;

template <class T>
class Await {
 public:
  explicit Await(UvLoop& loop) : loop_(loop) {}
  Done<T> done() { return pending_.template then<&Await::on_answer>(this); }
  Result<T> get() {
    if (!answered_) loop_.run();
    return std::move(result_);
  }

 private:
  void on_answer(Result<T> result) {
    result_ = std::move(result);
    answered_ = true;
    loop_.stop();
  }
  UvLoop& loop_;
  Pending<T> pending_;
  Result<T> result_ = fail(Code::internal, "no answer");
  bool answered_ = false;
};

template <class T>
T need(Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "shim_bench: %s\n", result.error().message.c_str());
  std::exit(1);
}
void need(Result<void> result) {
  if (result) return;
  std::fprintf(stderr, "shim_bench: %s\n", result.error().message.c_str());
  std::exit(1);
}

std::string digest_of(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) std::exit(1);
  Bytes all;
  uint8_t buffer[4096];
  for (size_t got = 0; (got = std::fread(buffer, 1, sizeof buffer, file)) > 0;) append(all, {buffer, got});
  std::fclose(file);
  return hex_encode(sha256(all));
}

int entries(const char* path) {
  int count = 0;
  DIR* dir = ::opendir(path);
  while (dir != nullptr && ::readdir(dir) != nullptr) ++count;
  if (dir != nullptr) ::closedir(dir);
  return count;
}

// A field of a file of kB lines, of /proc.
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

struct Bench {
  UvLoop loop;

  std::shared_ptr<Instance> instance(const limpet_component& component) {
    auto made = need(Instance::create({loop, Logger::none(), "example.org", {}}, component, "bench"));
    Await<void> configured(loop);
    made->configure("{}", false, configured.done());
    need(configured.get());
    return made;
  }

  double sign(const char* what, const limpet_component& component) {
    auto keys = make_key_manager(instance(component));
    ManagedKey key;
    key.id = "ok";
    key.fingerprint = "f";
    const Bytes digest(32, 7);
    std::vector<double> took;
    for (int i = 0; i < kSigns; ++i) {
      const auto before = std::chrono::steady_clock::now();
      Await<Bytes> signature(loop);
      keys->sign(key, HashAlg::sha256, digest, signature.done());
      (void)need(signature.get());
      took.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - before).count());
    }
    std::ranges::sort(took);
    std::printf("sign %-11s p50 %7.1f us  p99 %7.1f us\n", what, took[took.size() / 2], took[took.size() * 99 / 100]);
    return took[took.size() / 2];
  }

  void memory(const limpet_component& component) {
    auto kept = instance(component);
    char children[64] = {};
    std::FILE* file = std::fopen(("/proc/self/task/" + std::to_string(::getpid()) + "/children").c_str(), "r");
    if (file == nullptr || std::fgets(children, sizeof children, file) == nullptr) return;
    std::fclose(file);
    const std::string pid = std::to_string(std::atoi(children));
    const std::string rollup = "/proc/" + pid + "/smaps_rollup";
    std::printf("child        Rss %ld kB  Pss %ld kB  private dirty %ld kB\n", kilobytes(rollup, "Rss:"),
                kilobytes(rollup, "Pss:"), kilobytes(rollup, "Private_Dirty:"));
  }

  void cycles(const char* what, const limpet_component& component, int count) {
    for (int i = 0; i < 100; ++i) instance(component)->close();
    settle();
    const int descriptors = entries("/proc/self/fd");
    const size_t bytes = ::mallinfo2().uordblks;
    const auto before = std::chrono::steady_clock::now();
    for (int i = 0; i < count; ++i) instance(component)->close();
    settle();
    const double took = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - before).count();
    std::printf("cycles %-10s %d in %.1f us each; %+ld bytes, %+d descriptors\n", what, count, took / count,
                static_cast<long>(::mallinfo2().uordblks) - static_cast<long>(bytes),
                entries("/proc/self/fd") - descriptors);
  }

  void settle() {
    Timer timer(loop);
    timer.start<&UvLoop::stop>(200, &loop);
    loop.run();
  }
};

int run(const char* program, const char* path) {
  Bench bench;
  const std::string digest = digest_of(path);
  const limpet_plugin* plugin = need(load_plugin_file(path, digest));
  const limpet_component* local = find_component(*plugin, LIMPET_KEY_MANAGER, "moody");
  shim::Settings settings;
  settings.program = program;
  const auto remote = need(shim::Component::open(bench.loop, settings, path, digest, LIMPET_KEY_MANAGER, "moody"));
  for (const std::string& missing : remote->facts().missing) std::printf("sandbox lacks %s\n", missing.c_str());
  const double in_process = bench.sign("in process", *local);
  const double in_shim = bench.sign("in a shim", *remote);
  std::printf("sign         the shim adds %.1f us\n", in_shim - in_process);
  bench.memory(*remote);
  bench.cycles("in process", *local, kCycles);
  bench.cycles("in a shim", *remote, kShimCycles);
  return 0;
}

}  // namespace
}  // namespace limpet

int main(int argc, char** argv) {
  if (argc == 3) return limpet::run(argv[1], argv[2]);
  std::fputs("usage: shim_bench LIMPET-SHIM PLUGIN.so\n", stderr);
  return 2;
}
