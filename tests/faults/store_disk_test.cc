// SPDX-License-Identifier: Apache-2.0
// A full disk, a read-only one, a file size limit: writes become errors, reads go on, writes resume by themselves.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <mutex>

#include "store_rig.h"

namespace limpet {
namespace {

using ::testing::HasSubstr;
constexpr TableId kTable = TableId::agent_state;

// A small file system of our own, seen by this process only.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, const char* size) : path_(path) {
    static const bool own_mounts =
        ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    mounted_ = own_mounts && ::mount("tmpfs", path.c_str(), "tmpfs", 0, (std::string("size=") + size).c_str()) == 0;
    reason_ = std::strerror(errno);
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] const std::string& reason() const { return reason_; }
  bool read_only() { return ::mount("tmpfs", path_.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0; }

 private:
  std::string path_;
  bool mounted_ = false;
  std::string reason_;
};
#define NEED_MOUNT(disk) \
  if (!(disk).mounted()) GTEST_SKIP() << "needs root, to mount a small file system: " << (disk).reason()

// Files larger than this get EFBIG, with root's rights or without.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    struct rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  struct rlimit before_{};
};

// Takes all that is left of the file system.
void fill_disk(const std::string& path) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  for (size_t size : {65536u, 4096u}) {
    const std::string block(size, 'x');
    while (::write(fd, block.data(), size) == static_cast<ssize_t>(size)) {
    }
  }
  ::close(fd);
}

std::string key_of(int i) { return "key " + std::to_string(i); }

// Writes rows until one fails; returns how many were acknowledged.
int write_until_full(Rig& rig, Result<uint64_t>& last) {
  for (int i = 0; i < 100'000; ++i) {
    last = rig.put(kTable, key_of(i), std::string(3000, 'v'));
    if (!last) return i;
  }
  return -1;
}

void expect_rows(const Rig& rig, int count) {
  for (int i = 0; i < count; ++i) ASSERT_EQ(rig.get(kTable, key_of(i)).size(), 3000u) << i;
}

TEST(StoreDisk, OnAFullDiskWritesFailReadsGoOnAndWritesResume) {
  Rig rig;
  SmallDisk disk(rig.dir.path(), "4m");
  NEED_MOUNT(disk);
  rig.open();
  const std::string ballast = rig.dir.file("ballast");
  write_file(ballast, std::string(1u << 20, 'b'));
  Result<uint64_t> last;
  const int written = write_until_full(rig, last);
  ASSERT_GT(written, 100);
  EXPECT_EQ(last.error().code, Code::resource_exhausted);
  EXPECT_THAT(last.error().message, HasSubstr(rig.dir.file() + ": no space left: free space"));
  EXPECT_TRUE(rig.store->read_only());
  expect_rows(rig, written);
  EXPECT_EQ(rig.get(kTable, key_of(written)), "?NotFound");

  // a restart on the full disk serves as before
  fill_disk(ballast);
  rig.open();
  ASSERT_TRUE(rig.store != nullptr);
  EXPECT_EQ(rig.store->damage(), "");
  expect_rows(rig, written);
  ASSERT_EQ(rig.put(kTable, "big", std::string(100'000, 'n')).error().code, Code::resource_exhausted);
  EXPECT_TRUE(rig.store->read_only());

  ::unlink(ballast.c_str());
  EXPECT_TRUE(rig.put(kTable, "big", std::string(100'000, 'n')).has_value());
  EXPECT_FALSE(rig.store->read_only());
  rig.open();
  expect_rows(rig, written);
  EXPECT_EQ(rig.get(kTable, "big").size(), 100'000u);
}

// With every amount of room from none to enough, so that each step of the creation fails once.
TEST(StoreDisk, CreationOnAFullDiskIsAClearErrorAndLeavesNothingInTheWay) {
  Rig rig;
  SmallDisk disk(rig.dir.path(), "1m");
  NEED_MOUNT(disk);
  const std::string ballast = rig.dir.file("ballast");
  int failed = 0;
  for (off_t room = 0; room <= 96; room += 4) {
    SCOPED_TRACE(room);
    for (const char* name : {"state.mdb", "state.mdb-lock", "state.mdb.owner"}) ::unlink(rig.dir.file(name).c_str());
    fill_disk(ballast);
    ASSERT_EQ(::truncate(ballast.c_str(), (1024 - room) * 1024), 0);
    auto store = Store::open(rig.loop, {.path = rig.dir.file()});
    EXPECT_TRUE(store || store.error().code == Code::resource_exhausted) << store.error().text();
    EXPECT_TRUE(store || store.error().message.find(rig.dir.file()) != std::string::npos) << store.error().text();
    failed += store ? 0 : 1;
    store = fail(Code::cancelled, "closed");
    ::unlink(ballast.c_str());
    rig.open();
    ASSERT_TRUE(rig.store != nullptr);
    EXPECT_EQ(rig.store->damage(), "");
    EXPECT_TRUE(rig.put(kTable, "a", "1").has_value());
    rig.store.reset();
  }
  EXPECT_GT(failed, 5);
}

TEST(StoreDisk, AFileSizeLimitIsLikeAFullDisk) {
  Rig rig;
  rig.open();
  int written = 0;
  {
    FileSizeLimit limit(512 * 1024);
    Result<uint64_t> last;
    written = write_until_full(rig, last);
    ASSERT_GT(written, 50);
    EXPECT_EQ(last.error().code, Code::resource_exhausted) << last.error().text();
    EXPECT_TRUE(rig.store->read_only());
    expect_rows(rig, written);
    // and again, without a step forward or back
    EXPECT_FALSE(rig.put(kTable, "more", std::string(9000, 'm')).has_value());
    expect_rows(rig, written);
  }
  EXPECT_TRUE(rig.put(kTable, "more", std::string(9000, 'm')).has_value());
  EXPECT_FALSE(rig.store->read_only());
  rig.open();
  EXPECT_EQ(rig.store->damage(), "");
  expect_rows(rig, written);
}

// Holds the writer while change sets pile up into one group.
class Gate final : public Committer {
 public:
  Gate(std::unique_ptr<Committer> local, std::mutex& gate) : local_(std::move(local)), gate_(gate) {}
  std::vector<Outcome> commit(std::vector<ChangeSet>& group) override {
    std::lock_guard wait(gate_);
    return local_->commit(group);
  }

 private:
  std::unique_ptr<Committer> local_;
  std::mutex& gate_;
};

TEST(StoreDisk, OnlyTheChangeSetThatDoesNotFitFails) {
  Rig rig;
  std::mutex gate;
  StoreOptions options;
  options.wrap_committer = [&gate](std::unique_ptr<Committer> local) -> std::unique_ptr<Committer> {
    return std::make_unique<Gate>(std::move(local), gate);
  };
  rig.open(options);
  ASSERT_TRUE(rig.put(kTable, "first", "1").has_value());
  FileSizeLimit limit(1u << 20);
  Wait waits[6];
  gate.lock();
  for (int i = 0; i < 6; ++i) {
    ChangeSet set;
    set.put(kTable, as_bytes(key_of(i)), as_bytes(std::string(i == 3 ? 3u << 20 : 100u, 'v')));
    rig.store->commit(std::move(set), waits[i].done());
  }
  gate.unlock();
  rig.store->settle();
  rig.loop.run_ready();
  uint64_t revision = 1;
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(waits[i].answer.has_value());
    if (i == 3) {
      EXPECT_EQ(waits[i].answer->error().code, Code::resource_exhausted);
      EXPECT_EQ(rig.get(kTable, key_of(i)), "?NotFound");
    } else {
      EXPECT_EQ(*waits[i].answer, ++revision);
      EXPECT_EQ(rig.get(kTable, key_of(i)).size(), 100u);
    }
  }
}

TEST(StoreDisk, AStoreThatReachedItsLargestSizeSaysSo) {
  Rig rig;
  rig.open({.map_bytes = 1u << 20});
  Result<uint64_t> last;
  const int written = write_until_full(rig, last);
  ASSERT_GT(written, 50);
  EXPECT_EQ(last.error().code, Code::resource_exhausted);
  EXPECT_THAT(last.error().message, HasSubstr("largest size"));
  EXPECT_TRUE(rig.store->read_only());
  expect_rows(rig, written);
  rig.open({.map_bytes = 4u << 20});
  EXPECT_TRUE(rig.put(kTable, "more", "1").has_value());
  expect_rows(rig, written);
}

TEST(StoreDisk, AReadOnlyFileSystemIsRefusedWithPathAndReason) {
  Rig rig;
  SmallDisk disk(rig.dir.path(), "4m");
  NEED_MOUNT(disk);
  for (bool existing : {false, true}) {
    if (existing) {
      rig.open();
      ASSERT_TRUE(rig.put(kTable, "a", "1").has_value());
      rig.store.reset();
    }
    ASSERT_TRUE(disk.read_only()) << std::strerror(errno);
    auto store = Store::open(rig.loop, {.path = rig.dir.file()});
    ASSERT_FALSE(store.has_value());
    EXPECT_EQ(store.error().code, Code::unavailable);
    EXPECT_THAT(store.error().message, HasSubstr(rig.dir.file()));
    EXPECT_THAT(store.error().message, HasSubstr("Read-only file system"));
    ASSERT_EQ(::mount("tmpfs", rig.dir.path().c_str(), nullptr, MS_REMOUNT, nullptr), 0);
  }
  rig.open();
  EXPECT_EQ(rig.get(kTable, "a"), "1");
}

TEST(StoreDisk, MissingPermissionIsRefusedWithPathAndReason) {
  Rig rig;
  rig.open();
  ASSERT_TRUE(rig.put(kTable, "a", "1").has_value());
  rig.store.reset();
  ASSERT_EQ(::chmod(rig.dir.file().c_str(), 0400), 0);
  ASSERT_EQ(::chmod(rig.dir.path().c_str(), 0755), 0);
  const bool root = ::geteuid() == 0;
  ASSERT_EQ(::seteuid(root ? 65534 : ::geteuid()), 0);
  auto store = Store::open(rig.loop, {.path = rig.dir.file()});
  ASSERT_EQ(::seteuid(root ? 0 : ::geteuid()), 0);
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().code, Code::unavailable);
  EXPECT_THAT(store.error().message, HasSubstr("Permission denied"));
  EXPECT_THAT(store.error().message, HasSubstr(rig.dir.file()));
}

}  // namespace
}  // namespace limpet
