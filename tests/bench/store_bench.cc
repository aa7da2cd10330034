// SPDX-License-Identifier: Apache-2.0
// What the store costs: creating entries by 1, 50 and 500 a change set, reading them, opening a store that holds them.
// usage: store_bench [DIRECTORY [ENTRIES]]   (a directory on the disk to be measured; 100,000 entries)

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "loop/fake_loop.h"
#include "store/entries.h"

namespace limpet {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double cpu() {
  struct rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

long resident_kb() {
  std::ifstream in("/proc/self/statm");
  long size = 0, resident = 0;
  in >> size >> resident;
  return resident * (::sysconf(_SC_PAGESIZE) / 1024);
}

Entry make_entry(size_t i) {
  Entry entry;
  entry.id = "8d2c7a5e-0000-4000-8000-" + std::to_string(100'000'000'000 + i);
  entry.spiffe_id = *SpiffeId::parse("spiffe://example.org/workload/" + std::to_string(i));
  entry.parent_id =
      *SpiffeId::parse("spiffe://example.org/spire/agent/join_token/8d2c7a5e-0000-4000-8000-000000000000");
  entry.selectors = make_selector_set({{"unix", "uid:" + std::to_string(i)}, {"unix", "gid:1000"}});
  entry.x509_svid_ttl = 3600;
  entry.created_at = 1'800'000'000;
  return entry;
}

struct Wait {
  Pending<uint64_t> pending;
  bool done = false;
  void on_done(Result<uint64_t> revision) {
    if (!revision) {
      std::fprintf(stderr, "%s\n", revision.error().text().c_str());
      std::exit(1);
    }
    done = true;
  }
};

void commit(FakeLoop& loop, Store& store, ChangeSet changes) {
  Wait wait;
  store.commit(std::move(changes), wait.pending.then<&Wait::on_done>(&wait));
  store.settle();
  while (!wait.done) loop.run_ready();
}

std::unique_ptr<Store> open(FakeLoop& loop, const std::string& path, bool check) {
  auto store = Store::open(loop, {.path = path, .check_child = check});
  if (!store || !(*store)->damage().empty()) {
    std::fprintf(stderr, "%s\n", store ? (*store)->damage().c_str() : store.error().text().c_str());
    std::exit(1);
  }
  return std::move(*store);
}

// One change set at a time, as one client that waits for each answer.
void create(FakeLoop& loop, Store& store, size_t first, size_t count, size_t batch) {
  EntryTable table(store.read());
  const double begin = now(), begin_cpu = cpu();
  for (size_t i = 0; i < count; i += batch) {
    ChangeSet set;
    for (size_t j = 0; j < batch && i + j < count; ++j) table.create(set, make_entry(first + i + j));
    commit(loop, store, std::move(set));
  }
  const double seconds = now() - begin;
  std::printf("create, %3zu a change set  %9.0f entries/s  %7.1f us CPU an entry\n", batch,
              static_cast<double>(count) / seconds, (cpu() - begin_cpu) / static_cast<double>(count) * 1e6);
}

void read_all(const Store& store) {
  size_t count = 0;
  double begin = now();
  auto keep = [&count](EntryRow&&) { return ++count > 0; };
  if (!scan_entries(store.read(), 0, keep)) std::exit(1);
  std::printf("scan and decode           %9.0f entries/s  (%zu entries, RSS %ld kB)\n",
              static_cast<double>(count) / (now() - begin), count, resident_kb());
  begin = now();
  constexpr size_t kLookups = 100'000;
  for (size_t i = 0; i < kLookups; ++i) {
    if (!find_entry(store.read(), make_entry(i * 7919 % count).id)) std::exit(1);
  }
  std::printf("find by id                %9.0f /s\n", kLookups / (now() - begin));
}

int run(const std::string& parent, size_t entries) {
  std::string dir = parent + "/limpet-bench-XXXXXX";
  if (::mkdtemp(dir.data()) == nullptr) return 1;
  const std::string path = dir + "/state.mdb";
  FakeLoop loop;
  double begin = now();
  auto store = open(loop, path, true);
  std::printf("open, new                 %9.1f ms\n", (now() - begin) * 1e3);
  create(loop, *store, 0, 500, 1);
  create(loop, *store, 500, 9'500, 50);
  create(loop, *store, 10'000, entries - 10'000, 500);
  read_all(*store);
  for (bool check : {true, false}) {
    store.reset();
    begin = now();
    store = open(loop, path, check);
    std::printf("open, %s   %9.1f ms  (%zu entries, %ju kB, RSS %ld kB)\n",
                check ? "checked by a child" : "checked in process", (now() - begin) * 1e3, entries,
                static_cast<uintmax_t>(std::filesystem::file_size(path) / 1024), resident_kb());
  }
  store.reset();
  std::filesystem::remove_all(dir);
  return 0;
}

}  // namespace
}  // namespace limpet

int main(int argc, char** argv) {
  const size_t entries = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 100'000;
  return limpet::run(argc > 1 ? argv[1] : "/var/tmp", entries < 20'000 ? 20'000 : entries);
}
