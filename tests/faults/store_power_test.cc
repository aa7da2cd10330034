// SPDX-License-Identifier: Apache-2.0
// A power cut, which a kill cannot show: everything the store writes to its file is recorded with its syncs, then files
// are made as the disk may hold them after a cut at any moment: what was synced is there, of the rest any part, torn at
// sectors. LMDB's own calls come here because a program's functions stand before those of its libraries.

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "slots.h"

namespace limpet {
namespace {

constexpr size_t kSector = 512;

struct Event {
  enum class Kind : uint8_t { write, synced_write, sync, acknowledged };
  Kind kind;
  off_t offset = 0;
  std::string bytes;
  uint64_t revision = 0;
};

// What happened to one file, in order.
class Recorder {
 public:
  void watch(const std::string& path) {
    std::lock_guard lock(mutex_);
    struct stat file{};
    watched_ = ::stat(path.c_str(), &file) == 0 ? file.st_ino : 0;
    device_ = file.st_dev;
    events_.clear();
  }
  void on_write(int fd, const void* data, size_t size, off_t offset) {
    std::lock_guard lock(mutex_);
    if (!is_watched(fd)) return;
    const bool synced = (::fcntl(fd, F_GETFL) & O_DSYNC) != 0;
    events_.push_back({synced ? Event::Kind::synced_write : Event::Kind::write, offset,
                       std::string(static_cast<const char*>(data), size), 0});
  }
  void on_sync(int fd) {
    std::lock_guard lock(mutex_);
    if (is_watched(fd)) events_.push_back({Event::Kind::sync, 0, {}, 0});
  }
  void on_acknowledged(uint64_t revision) {
    std::lock_guard lock(mutex_);
    events_.push_back({Event::Kind::acknowledged, 0, {}, revision});
  }
  std::vector<Event> take() {
    std::lock_guard lock(mutex_);
    watched_ = 0;
    return std::move(events_);
  }

 private:
  [[nodiscard]] bool is_watched(int fd) const {
    struct stat file{};
    return watched_ != 0 && ::fstat(fd, &file) == 0 && file.st_ino == watched_ && file.st_dev == device_;
  }
  std::mutex mutex_;
  ino_t watched_ = 0;
  dev_t device_ = 0;
  std::vector<Event> events_;
};

Recorder recorder;

template <class F>
F next(const char* name) {
  F function = nullptr;
  void* found = ::dlsym(RTLD_NEXT, name);
  std::memcpy(&function, &found, sizeof function);
  return function;
}

}  // namespace
}  // namespace limpet

// Named by assembler labels, because the headers' own names change with the width of off_t.
#define STANDS_BEFORE(name) __asm__(name) __attribute__((visibility("default"), used))
extern "C" {
ssize_t recorded_pwrite(int fd, const void* data, size_t size, off_t offset) STANDS_BEFORE("pwrite");
ssize_t recorded_pwrite64(int fd, const void* data, size_t size, off_t offset) STANDS_BEFORE("pwrite64");
ssize_t recorded_write(int fd, const void* data, size_t size) STANDS_BEFORE("write");
ssize_t recorded_writev(int fd, const struct iovec* parts, int count) STANDS_BEFORE("writev");
int recorded_fdatasync(int fd) STANDS_BEFORE("fdatasync");
int recorded_fsync(int fd) STANDS_BEFORE("fsync");
}

ssize_t recorded_pwrite64(int fd, const void* data, size_t size, off_t offset) {
  static const auto real = limpet::next<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite64");
  const ssize_t written = real(fd, data, size, offset);
  if (written > 0) limpet::recorder.on_write(fd, data, static_cast<size_t>(written), offset);
  return written;
}
ssize_t recorded_pwrite(int fd, const void* data, size_t size, off_t offset) {
  return recorded_pwrite64(fd, data, size, offset);
}

// LMDB seeks and then writes where several pages follow one another.
ssize_t recorded_write(int fd, const void* data, size_t size) {
  static const auto real = limpet::next<ssize_t (*)(int, const void*, size_t)>("write");
  const off_t offset = ::lseek(fd, 0, SEEK_CUR);
  const ssize_t written = real(fd, data, size);
  if (written > 0 && offset >= 0) limpet::recorder.on_write(fd, data, static_cast<size_t>(written), offset);
  return written;
}
ssize_t recorded_writev(int fd, const struct iovec* parts, int count) {
  ssize_t total = 0;
  for (int i = 0; i < count; ++i) {
    const ssize_t written = recorded_write(fd, parts[i].iov_base, parts[i].iov_len);
    if (written < 0) return total > 0 ? total : written;
    total += written;
    if (static_cast<size_t>(written) < parts[i].iov_len) break;
  }
  return total;
}

int recorded_fdatasync(int fd) {
  static const auto real = limpet::next<int (*)(int)>("fdatasync");
  const int rc = real(fd);
  if (rc == 0) limpet::recorder.on_sync(fd);
  return rc;
}
int recorded_fsync(int fd) {
  static const auto real = limpet::next<int (*)(int)>("fsync");
  const int rc = real(fd);
  if (rc == 0) limpet::recorder.on_sync(fd);
  return rc;
}

namespace limpet {
namespace {

class Load {
 public:
  Load(Store& store, uint64_t operations) : store_(store), last_(operations) {
    for (Slot& slot : slots_) {
      slot.load = this;
      write(slot);
    }
  }
  [[nodiscard]] bool finished() const { return answered_ == last_; }

 private:
  struct Slot {
    Load* load = nullptr;
    Pending<uint64_t> pending;
    void on_done(Result<uint64_t> revision) {
      ASSERT_TRUE(revision.has_value()) << revision.error().text();
      recorder.on_acknowledged(*revision);
      ++load->answered_;
      load->write(*this);
    }
  };
  void write(Slot& slot) {
    if (next_ > last_) return;
    store_.commit(operation(next_++), slot.pending.then<&Slot::on_done>(&slot));
  }
  Store& store_;
  uint64_t last_;
  uint64_t next_ = 1;
  uint64_t answered_ = 0;
  Slot slots_[7];
};

void apply(std::string& image, const Event& event, size_t from, size_t size) {
  const auto at = static_cast<size_t>(event.offset) + from;
  if (image.size() < at + size) image.resize(at + size);
  image.replace(at, size, event.bytes, from, size);
}

// The file after a cut before event `cut`: `seed` decides which unsynced sectors reached the disk.
std::string after_cut(const std::string& base, const std::vector<Event>& events, size_t cut, std::mt19937& random,
                      uint64_t& acknowledged) {
  size_t synced = 0;
  for (size_t i = 0; i < cut; ++i) {
    if (events[i].kind == Event::Kind::sync) synced = i;
  }
  std::string image = base;
  acknowledged = 0;
  const unsigned share = random() % 3;  // of the unsynced sectors: none, half, nearly all
  for (size_t i = 0; i < cut; ++i) {
    const Event& event = events[i];
    if (event.kind == Event::Kind::acknowledged) acknowledged = event.revision;
    if (event.bytes.empty()) continue;
    if (i < synced || event.kind == Event::Kind::synced_write) {
      apply(image, event, 0, event.bytes.size());
      continue;
    }
    for (size_t from = 0; from < event.bytes.size(); from += kSector) {
      const bool reached = share == 1 ? random() % 2 == 0 : share == 2 && random() % 8 != 0;
      if (reached) apply(image, event, from, std::min(kSector, event.bytes.size() - from));
    }
  }
  return image;
}

TEST(StorePower, EveryAcknowledgedWriteIsThereAfterAPowerCutAtAnyMoment) {
  Rig source;
  source.open({.log_keep = kLogKeep});
  const std::string base = read_file(source.dir.file());
  recorder.watch(source.dir.file());
  {
    Load load(*source.store, 600);
    while (!load.finished() && !::testing::Test::HasFailure()) {
      if (source.loop.run_ready() == 0) std::this_thread::yield();
    }
  }
  const std::vector<Event> events = recorder.take();
  const std::string whole = read_file(source.dir.file());
  source.store.reset();

  std::mt19937 random(20261122);
  uint64_t acknowledged = 0;
  size_t syncs = 0, synced_writes = 0;
  for (const Event& event : events) {
    syncs += event.kind == Event::Kind::sync ? 1 : 0;
    synced_writes += event.kind == Event::Kind::synced_write ? 1 : 0;
  }
  ASSERT_GT(syncs, 50u) << "the recorder sees LMDB's calls";
  ASSERT_GT(synced_writes, 50u);
  ASSERT_EQ(after_cut(base, events, events.size(), random, acknowledged).size(), whole.size());

  for (int i = 0; i < 150; ++i) {
    const size_t cut = random() % (events.size() + 1);
    SCOPED_TRACE("cut before event " + std::to_string(cut) + " of " + std::to_string(events.size()));
    Rig rig;
    write_file(rig.dir.file(), after_cut(base, events, cut, random, acknowledged));
    rig.open({.log_keep = kLogKeep});
    ASSERT_TRUE(rig.store != nullptr);
    ASSERT_EQ(rig.store->damage(), "");
    const uint64_t revision = rig.store->read().revision();
    ASSERT_GE(revision, acknowledged) << "an acknowledged write is gone";
    check_rows(rig, revision);
    check_log(rig, revision);
  }
}

}  // namespace
}  // namespace limpet
