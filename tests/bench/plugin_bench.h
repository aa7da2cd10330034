// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the benchmarks of plugins share: calls that are waited for, and failures that end the program.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "crypto/key.h"
#include "loop/uv_loop.h"
#include "plugin/instance.h"
#include "plugin/loader.h"

namespace limpet::bench {

[[noreturn]] inline void give_up(const std::string& why) {
  std::fprintf(stderr, "bench: %s\n", why.c_str());
  std::exit(1);
}

template <class T>
T need(Result<T> result) {
  if (!result) give_up(result.error().text());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// Turns the loop until the answer is there.
template <class T>
class Await {
 public:
  explicit Await(UvLoop& loop) : loop_(loop) {}
  Done<T> done() { return pending_.template then<&Await::on_answer>(this); }
  T get() {
    if (!answered_) loop_.run();
    return need(std::move(result_));
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

inline std::string digest_of(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) give_up(path + " cannot be read");
  Bytes all;
  uint8_t buffer[4096];
  for (size_t got = 0; (got = std::fread(buffer, 1, sizeof buffer, file)) > 0;) append(all, {buffer, got});
  std::fclose(file);
  return hex_encode(sha256(all));
}

// An instance, configured.
inline std::shared_ptr<Instance> make_instance(UvLoop& loop, const limpet_component& component, const std::string& json,
                                               const HostServices& services = {}) {
  auto made = need(Instance::create({loop, Logger::none(), "example.org", services}, component, "bench"));
  Await<void> configured(loop);
  made->configure(json, false, configured.done());
  configured.get();
  return made;
}

}  // namespace limpet::bench
