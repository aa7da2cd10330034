// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the store's tests share: a directory that goes away with the test, and a store on a fake loop whose commits are
// waited for.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "loop/fake_loop.h"
#include "store/store.h"

namespace limpet {

class TempDir {
 public:
  // In memory where there is such a place, so that a busy disk does not slow the tests; on the disk if asked.
  explicit TempDir(bool on_disk = false) {
    char memory[] = "/dev/shm/limpet-store-XXXXXX", disk[] = "/tmp/limpet-store-XXXXXX";
    if (!on_disk && ::mkdtemp(memory) != nullptr) {
      path_ = memory;
    } else if (::mkdtemp(disk) != nullptr) {
      path_ = disk;
    }
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name = "state.mdb") const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}
inline void write_file(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc).write(text.data(), static_cast<std::streamsize>(text.size()));
}

// One commit being waited for.
class Wait {
 public:
  Done<uint64_t> done() { return pending_.then<&Wait::on_done>(this); }
  std::optional<Result<uint64_t>> answer;

 private:
  void on_done(Result<uint64_t> result) { answer = std::move(result); }
  Pending<uint64_t> pending_;
};

struct Rig {
  FakeLoop loop;
  TempDir dir;
  std::unique_ptr<Store> store;

  explicit Rig(bool on_disk = false) : dir(on_disk) {}
  void open(StoreOptions options = {}) {
    store.reset();
    options.path = dir.file();
    auto opened = Store::open(loop, std::move(options));
    ASSERT_TRUE(opened.has_value()) << opened.error().text();
    store = std::move(*opened);
  }
  Result<uint64_t> commit(ChangeSet changes) {
    Wait wait;
    store->commit(std::move(changes), wait.done());
    store->settle();
    loop.run_ready();
    if (!wait.answer) return fail(Code::internal, "no answer");
    return *wait.answer;
  }
  Result<uint64_t> put(TableId table, std::string_view key, std::string_view value) {
    ChangeSet changes;
    changes.put(table, as_bytes(key), as_bytes(value));
    return commit(std::move(changes));
  }
  // "?<code>" for an error.
  [[nodiscard]] std::string get(TableId table, std::string_view key) const {
    Snapshot snapshot = store->read();
    auto value = snapshot.get(table, as_bytes(key));
    return value ? std::string(as_text(*value)) : "?" + code_name(value.error().code);
  }
};

}  // namespace limpet
