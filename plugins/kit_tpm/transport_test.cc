// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/transport.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

namespace limpet::tpm {
namespace {

// In place of /dev.
class FindDevice : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(directory.data()), nullptr); }
  void TearDown() override {
    ::chmod(directory.c_str(), 0700);
    std::filesystem::remove_all(directory);
  }
  void make(std::initializer_list<const char*> names) {
    for (const char* name : names) std::ofstream(directory + "/" + name) << "x";
  }
  // The name of what was found, or the error.
  std::string found() {
    const auto path = find_device(directory);
    if (!path) return path.error().text();
    EXPECT_TRUE(path->starts_with(directory + "/"));
    return path->substr(directory.size() + 1);
  }
  std::string directory = ::testing::TempDir() + "limpet_dev_XXXXXX";
};

TEST_F(FindDevice, NothingThatIsNoTpmIsTaken) {
  const std::string none =
      "Unavailable: this machine has no TPM: neither /dev/tpmrm0 nor /dev/tpm0 is there; load its driver, or name it "
      "in `device`";
  EXPECT_EQ(found(), none);
  make({"tpm", "tpmrm", "tpmx", "tpm0x", "vtpmx", "atpm0"});
  std::filesystem::create_symlink("nowhere", directory + "/tpm0");
  EXPECT_EQ(found(), none);
}

TEST_F(FindDevice, TheResourceManagedNodeOfTheOnlyTpmIsTaken) {
  make({"tpm1"});
  EXPECT_EQ(found(), "tpm1");
  make({"tpmrm15"});
  EXPECT_EQ(found(), "tpmrm15");
  make({"tpm0"});
  EXPECT_EQ(found(), "tpmrm15");
}

// UNAVAILABLE: a second TPM that came up does not make the keys in the first one lost.
TEST_F(FindDevice, TwoTpmsAreForTheConfigurationToChooseFrom) {
  make({"tpmrm0", "tpmrm2", "tpm0", "tpm2"});
  EXPECT_EQ(found(), "Unavailable: this machine has more than one TPM (" + directory + "/tpmrm0, " + directory +
                         "/tpmrm2); name the one to use in `device`");
}

// What a plugin's own process sees of /dev: what it may open is there, and the directory cannot be listed.
TEST_F(FindDevice, ADirectoryThatCannotBeListedIsEnough) {
  make({"tpmrm0"});
  ASSERT_EQ(::chmod(directory.c_str(), 0111), 0);
  const uid_t mine = ::geteuid();
  if (mine == 0) ::setfsuid(65534);  // root may list anything
  struct stat st = {};
  const bool reached = ::stat(directory.c_str(), &st) == 0;
  DIR* const listed = ::opendir(directory.c_str());
  if (listed != nullptr) ::closedir(listed);
  const std::string name = found();
  if (mine == 0) ::setfsuid(mine);
  if (!reached) GTEST_SKIP() << "user 65534 does not reach " << directory;
  EXPECT_EQ(listed, nullptr) << "the test proves nothing";
  EXPECT_EQ(name, "tpmrm0");
}

// A software TPM on a Unix socket that takes its connections one at a time, and somebody is before us.
TEST(TpmTransport, WaitsForItsPlaceInASocketsQueue) {
  std::string path = ::testing::TempDir() + "limpet_queue_" + std::to_string(::getpid());
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int before_us = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener, 0), 0);
  ASSERT_EQ(::connect(before_us, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  Address to;
  to.kind = Address::Kind::socket;
  to.path = path;
  const auto late = Transport::open(to, 50);
  ASSERT_FALSE(late);
  EXPECT_NE(late.error().message.find("cannot connect"), std::string::npos) << late.error().text();
  std::thread server([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ::close(::accept(listener, nullptr, nullptr));
  });
  const auto taken = Transport::open(to, 20'000);
  server.join();
  ASSERT_TRUE(taken) << taken.error().text();
  EXPECT_TRUE((*taken)->send(Bytes(10)));
  ::close(before_us);
  ::close(listener);
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace limpet::tpm
