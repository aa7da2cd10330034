// SPDX-License-Identifier: Apache-2.0
// What of the cache's key file is on disk when the key is given out: rows under a key that a power cut took are lost.
// The program's own fsync stands before the C library's.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "agent/cache_key.h"

namespace limpet::test {
namespace {

namespace fs = std::filesystem;

struct Sync {
  std::string path;
  bool in_place;  // the key had its name then
  bool operator==(const Sync&) const = default;
};
// While a test watches.
std::string watched;  // the key file; empty: none
std::vector<Sync> syncs;

void on_sync(int fd) {
  if (watched.empty()) return;
  char path[PATH_MAX] = {};
  const ssize_t size = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
  syncs.push_back({std::string(path, size > 0 ? static_cast<size_t>(size) : 0), fs::exists(watched)});
}

}  // namespace
}  // namespace limpet::test

extern "C" int recorded_fsync(int fd) __asm__("fsync") __attribute__((visibility("default"), used));
int recorded_fsync(int fd) {
  int (*real)(int) = nullptr;
  void* found = ::dlsym(RTLD_NEXT, "fsync");
  std::memcpy(&real, &found, sizeof real);
  limpet::test::on_sync(fd);
  return real(fd);
}

namespace limpet::test {
namespace {

TEST(SealKey, ItsContentAndThenItsNameAreOnDiskBeforeItIsUsed) {
  const fs::path folder = fs::canonical(::testing::TempDir()) / ("limpet-seal-key-" + std::to_string(::getpid()));
  fs::remove_all(folder);
  fs::create_directories(folder);
  const std::string file = (folder / "seal.key").string();
  watched = file;
  syncs.clear();
  const auto key = agent::load_seal_key(file);
  watched.clear();
  fs::remove_all(folder);
  ASSERT_TRUE(key) << key.error().text();
  EXPECT_EQ(syncs, (std::vector<Sync>{{file + ".new", false}, {folder.string(), true}}));
}

}  // namespace
}  // namespace limpet::test
