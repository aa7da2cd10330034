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
#include "support/await.h"

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

// Without an answer the program ends.
template <class T>
struct Await : test::Awaited<T> {
  using test::Awaited<T>::Awaited;
  T get() { return need(test::Awaited<T>::get()); }
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
