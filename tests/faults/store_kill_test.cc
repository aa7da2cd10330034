// SPDX-License-Identifier: Apache-2.0
// A child writes under load and reports each acknowledged revision through a pipe; it is killed at a random moment;
// then the store is opened again. Operation n is revision n, so what must be there follows from the revision found: it
// is at least the last one acknowledged, and the rows are exactly those of the operations up to it.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <random>
#include <thread>

#include "slots.h"

namespace limpet {
namespace {

constexpr int kKills = 220;
constexpr int kRoundsPerFile = 55;  // then a new file, so that its creation is killed too
constexpr size_t kInFlight = 12;

class Writer {
 public:
  Writer(Store& store, int report) : store_(store), report_(report) {
    next_ = store.read().revision() + 1;
    for (Slot& slot : slots_) {
      slot.writer = this;
      write(slot);
    }
  }

 private:
  struct Slot {
    Writer* writer = nullptr;
    Pending<uint64_t> pending;
    uint64_t operation = 0;
    void on_done(Result<uint64_t> revision) { writer->on_done(*this, std::move(revision)); }
  };
  void write(Slot& slot) {
    slot.operation = next_++;
    store_.commit(operation(slot.operation), slot.pending.then<&Slot::on_done>(&slot));
  }
  void on_done(Slot& slot, Result<uint64_t> revision) {
    if (!revision || *revision != slot.operation) ::_exit(3);
    if (::write(report_, &*revision, sizeof *revision) != sizeof *revision) ::_exit(4);
    write(slot);
  }
  Store& store_;
  int report_;
  uint64_t next_ = 1;
  Slot slots_[kInFlight];
};

[[noreturn]] void be_writer(const std::string& path, int report) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  FakeLoop loop;
  auto store = Store::open(loop, {.path = path, .log_keep = kLogKeep});
  if (!store || !(*store)->damage().empty()) {
    std::fprintf(stderr, "writer: %s\n", store ? (*store)->damage().c_str() : store.error().text().c_str());
    ::_exit(2);
  }
  Writer writer(**store, report);
  while (true) {
    if (loop.run_ready() == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

// Reads acknowledgements for so long, or until the pipe is closed (-1); returns the last one, or `last`.
uint64_t drain(int in, uint64_t last, int64_t for_us) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(for_us);
  pollfd wait{in, POLLIN, 0};
  while (for_us < 0 || std::chrono::steady_clock::now() < deadline) {
    if (::poll(&wait, 1, for_us < 0 ? -1 : 0) <= 0) continue;
    uint64_t revision = 0;
    if (::read(in, &revision, sizeof revision) != sizeof revision) return last;
    last = revision;
  }
  return last;
}

// Until the first acknowledgement, or the writer's end.
uint64_t await_first(int in) {
  uint64_t revision = 0;
  return ::read(in, &revision, sizeof revision) == sizeof revision ? revision : 0;
}

struct Round {
  uint64_t acknowledged = 0;
  int status = 0;
};

Round run_and_kill(const std::string& path, bool under_load, int64_t after_us) {
  int ends[2];
  Round round;
  if (::pipe2(ends, O_CLOEXEC) != 0) return round;
  const pid_t child = ::fork();
  if (child == 0) be_writer(path, ends[1]);
  ::close(ends[1]);
  if (under_load) round.acknowledged = await_first(ends[0]);
  round.acknowledged = drain(ends[0], round.acknowledged, after_us);
  ::kill(child, SIGKILL);
  round.acknowledged = drain(ends[0], round.acknowledged, -1);
  ::close(ends[0]);
  ::waitpid(child, &round.status, 0);
  return round;
}

TEST(StoreKill, EveryAcknowledgedWriteIsThereAfterAKillAtAnyMoment) {
  std::mt19937 random(20261122);
  std::unique_ptr<Rig> rig;
  uint64_t operations = 0, last_revision = 0;
  int under_load = 0;
  for (int i = 0; i < kKills; ++i) {
    SCOPED_TRACE("kill " + std::to_string(i));
    if (i % kRoundsPerFile == 0) {
      operations += last_revision;
      last_revision = 0;
      rig = std::make_unique<Rig>(i / kRoundsPerFile % 2 == 1);  // in memory and on the disk in turn
    }
    // a quarter during opening or soon after, the rest while writing
    const bool loaded = i % 4 != 0;
    Round round = run_and_kill(rig->dir.file(), loaded, random() % (loaded ? 40'000 : 25'000));
    ASSERT_TRUE(WIFSIGNALED(round.status) && WTERMSIG(round.status) == SIGKILL)
        << "the writer failed: " << round.status;
    rig->open();
    ASSERT_TRUE(rig->store != nullptr);
    ASSERT_EQ(rig->store->damage(), "");
    const uint64_t revision = rig->store->read().revision();
    ASSERT_GE(revision, round.acknowledged) << "an acknowledged write is gone";
    ASSERT_GE(revision, last_revision);
    if (round.acknowledged > 0) ++under_load;
    last_revision = revision;
    check_rows(*rig, revision);
    check_log(*rig, revision);
    rig->store.reset();
  }
  operations += last_revision;
  std::printf("%d kills, %d of them under load, %llu revisions\n", kKills, under_load,
              static_cast<unsigned long long>(operations));
  EXPECT_GE(under_load, kKills / 2) << "too few kills met a writing store to say anything";
}

}  // namespace
}  // namespace limpet
