// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the life of a plugin's instance leaves behind: create, configure and destroy, many times over. Shared by the
// test that no byte and no descriptor is missing and by the benchmark (tests/bench/shim_bench.cc).
//
// Bytes are those of the whole process's heap. With a sanitizer its own count is exact. glibc's is not while it keeps
// freed blocks aside for each thread (tcache): those count as used, how many they are depends on the order of the last
// few calls, and so a figure taken twice differs by some thousand bytes either way. A program without a sanitizer that
// wants an exact one is started with GLIBC_TUNABLES=glibc.malloc.tcache_count=0.

#include <malloc.h>
#include <sys/wait.h>

#include <string>

#include "loop/uv_loop.h"
#include "plugin/instance.h"
#include "support/await.h"
#include "support/open_descriptors.h"

#if defined(__SANITIZE_ADDRESS__)  // gcc
#define LIMPET_SANITIZED
#elif defined(__has_feature)  // clang
#if __has_feature(address_sanitizer)
#define LIMPET_SANITIZED
#endif
#endif
#ifdef LIMPET_SANITIZED
extern "C" size_t __sanitizer_get_current_allocated_bytes();  // <sanitizer/allocator_interface.h>, not always there
#endif

namespace limpet::test {

#ifdef LIMPET_SANITIZED
inline constexpr bool kHeapIsExact = true;
#else
inline constexpr bool kHeapIsExact = false;
#endif

inline int64_t heap_bytes() {
#ifdef LIMPET_SANITIZED
  return static_cast<int64_t>(::__sanitizer_get_current_allocated_bytes());
#else
  return static_cast<int64_t>(::mallinfo2().uordblks);
#endif
}

inline bool has_children() {
  siginfo_t info = {};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

struct Leaked {
  int64_t bytes = 0;
  int64_t descriptors = 0;
};

// Lives in batches of kAtOnce. After each batch it waits for the processes that are on their way out: how many there
// are at a time decides how large the loop's tables grow. Loop thread, outside of run().
class Cycles {
 public:
  static constexpr int kAtOnce = 16;

  Cycles(UvLoop& loop, const limpet_component& component) : loop_(loop), component_(component), timer_(loop) {}

  // One instance's life. False: error() says what went wrong.
  bool one() {
    auto made = Instance::create({loop_, Logger::none(), "example.org", {}}, component_, "cycle");
    if (!made) return failed(made.error());
    const bool good = configure(**made);
    (*made)->close();
    return good;
  }

  // Brings every table to the size it will have, until nothing changes any more. What never settles is measured all the
  // same: that is a leak.
  bool warm_up() {
    std::vector<std::shared_ptr<Instance>> together;
    for (int i = 0; i < kAtOnce; ++i) {
      auto made = Instance::create({loop_, Logger::none(), "example.org", {}}, component_, "cycle");
      if (!made) return failed(made.error());
      together.push_back(std::move(*made));
      if (!configure(*together.back())) return false;
    }
    for (const auto& instance : together) instance->close();
    together.clear();
    settle();
    int64_t before = heap_bytes();
    for (int quiet = 0, batch = 0; quiet < 3 && batch < 30; ++batch) {
      if (!run(kAtOnce)) return false;
      const int64_t now = heap_bytes();
      quiet = now == before ? quiet + 1 : 0;
      before = now;
    }
    return true;
  }

  // What is missing after `count` lives; false: error() says why there were not as many.
  bool measure(int count, Leaked& out) {
    const Leaked before = {heap_bytes(), open_descriptors()};
    if (!run(count)) return false;
    out = {heap_bytes() - before.bytes, open_descriptors() - before.descriptors};
    return true;
  }

  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  bool run(int count) {
    for (int i = 1; i <= count; ++i) {
      if (!one()) return false;
      if (i % kAtOnce == 0 || i == count) settle();
    }
    return true;
  }
  bool failed(const Error& error) {
    error_ = error.text();
    return false;
  }
  bool configure(Instance& instance) {
    Awaited<void> configured(loop_);
    instance.configure("{}", false, configured.done());
    const auto good = configured.get();
    return good || failed(good.error());
  }
  // Until every child is gone, and two turns of the loop more: whoever buried it leaves at the next one.
  void settle() {
    turns_ = 0;
    timer_.start<&Cycles::look>(0, this);
    loop_.run();
  }
  void look() {
    const bool waits = has_children();
    turns_ = waits ? 0 : turns_ + 1;
    if (turns_ > 2) return loop_.stop();
    timer_.start<&Cycles::look>(waits ? 1 : 0, this);
  }

  UvLoop& loop_;
  const limpet_component& component_;
  Timer timer_;
  int turns_ = 0;
  std::string error_;
};

}  // namespace limpet::test
