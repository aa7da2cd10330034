// SPDX-License-Identifier: Apache-2.0
// What a plugin can and cannot do in its sandbox: asked of the mock "moody", in a child without a sanitizer. As root,
// because only root can give a process another user.
#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>

#include "plugin/workload_attestor.h"
#include "shimmed.h"

namespace limpet {
namespace {

using namespace test;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Sandbox : public ShimTest {
 protected:
  Sandbox() {
    settings_.program = LIMPET_PLAIN_SHIM;
    settings_.sandbox = true;
    settings_.user = "65534";
    char name[] = "/tmp/limpet-sandbox-XXXXXX";
    folder_ = ::mkdtemp(name);
    ::chmod(folder_.c_str(), 0777);
  }
  ~Sandbox() override { std::filesystem::remove_all(folder_); }
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: only root can give a process another user";
  }
  std::shared_ptr<Instance> sandboxed(const char* interface_id = LIMPET_KEY_MANAGER) {
    return start(interface_id, "mock_moody_plain");
  }
  // A protection that this machine does not have is reported, and its test has nothing to say.
  bool lacks(const char* what) {
    for (const std::string& one : components_.back()->facts().missing) {
      if (one.starts_with(what)) return true;
    }
    return false;
  }
  std::string folder_;
};

TEST_F(Sandbox, APluginIsAnotherUserWithoutMoreThanFiveDescriptors) {
  auto keys = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*keys, "who"), "65534 65534");
  EXPECT_EQ(sign(*keys, "files"), "6");  // 0 to 2, the socket, the plugin, the event descriptor
}

TEST_F(Sandbox, ItHasNoNetworkButUnixSockets) {
  auto keys = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*keys, "inet"), "Address family not supported by protocol");
  EXPECT_EQ(sign(*keys, "unix"), "ok");
  settings_.network = true;
  auto online = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*online, "inet"), "ok");
}

TEST_F(Sandbox, ItStartsThreadsButNoProcesses) {
  auto keys = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*keys, "thread"), "from a thread");
  EXPECT_EQ(sign(*keys, "fork"), "Operation not permitted");
  EXPECT_THAT(sign(*keys, "kill"), ::testing::Ne("ok"));
  EXPECT_THAT(sign(*keys, "exec"), HasSubstr("killed by signal 31"));
}

TEST_F(Sandbox, ItsMemoryIsLimited) {
  auto keys = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*keys, "memory"), "refused");
}

TEST_F(Sandbox, ItReadsAndWritesWhatTheConfigurationNames) {
  const std::string secret = folder_ + "/secret";
  std::ofstream(secret) << "x";
  auto keys = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*keys, "read:/etc/passwd"), "ok");
  EXPECT_EQ(sign(*keys, "read:/etc/shadow"), "Permission denied");
  if (lacks("files")) GTEST_SKIP() << "no Landlock here";
  EXPECT_EQ(sign(*keys, "read:" + secret), "Permission denied");
  EXPECT_EQ(sign(*keys, "write:" + folder_ + "/new"), "Permission denied");
  settings_.read_paths = {folder_};
  auto reader = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*reader, "read:" + secret), "ok");
  EXPECT_EQ(sign(*reader, "write:" + folder_ + "/new"), "Permission denied");
  EXPECT_THAT(sign(*reader, "mkdir:" + folder_ + "/made"), ::testing::Ne("ok"));
  settings_.read_paths.clear();
  settings_.write_paths = {folder_};
  auto writer = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*writer, "write:" + folder_ + "/new"), "ok");
  EXPECT_EQ(sign(*writer, "mkdir:" + folder_ + "/made"), "ok");
}

TEST_F(Sandbox, ADeviceNeedsToBeOnTheList) {
  auto keys = make_key_manager(sandboxed());
  if (lacks("files")) GTEST_SKIP() << "no Landlock here";
  EXPECT_EQ(sign(*keys, "write:/dev/full"), "Permission denied");
  settings_.devices = {"/dev/full"};
  auto listed = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*listed, "write:/dev/full"), "ok");
}

TEST_F(Sandbox, APathOutOfReachOfTheUserIsNamedAtTheStart) {
  ::chmod(folder_.c_str(), 0700);
  settings_.write_paths = {folder_};
  const auto opened = open(LIMPET_KEY_MANAGER, mock("mock_moody_plain"));
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, Code::failed_precondition);
  EXPECT_THAT(opened.error().message, HasSubstr(folder_ + " cannot be written by user 65534: Permission denied"));
}

TEST_F(Sandbox, AnUnknownUserIsNamed) {
  settings_.user = "nobody-of-this-name";
  const auto opened = open(LIMPET_KEY_MANAGER, mock("mock_moody_plain"));
  ASSERT_FALSE(opened.has_value());
  EXPECT_THAT(opened.error().message, HasSubstr("there is no such user"));
}

// The reason for the attestors' own policy: another user's process, and its executable in a folder of its own.
TEST_F(Sandbox, AWorkloadAttestorSeesAnotherUsersExecutableAndCannotWrite) {
  const std::string program = folder_ + "/sleep";
  std::filesystem::copy_file("/bin/sleep", program);
  ::chmod(program.c_str(), 0700);
  ::chmod(folder_.c_str(), 0700);
  ASSERT_EQ(::chown(program.c_str(), 12345, 12345), 0);
  ASSERT_EQ(::chown(folder_.c_str(), 12345, 12345), 0);
  const pid_t workload = ::fork();
  if (workload == 0) {
    if (::setgid(12345) != 0 || ::setuid(12345) != 0) ::_exit(1);
    ::execl(program.c_str(), "sleep", "60", nullptr);
    ::_exit(1);
  }
  for (int i = 0; i < 500; ++i) {  // until it is the program
    std::error_code none;
    if (std::filesystem::read_symlink("/proc/" + std::to_string(workload) + "/exe", none) == program) break;
    ::usleep(10'000);
  }
  auto attestor = make_workload_attestor(sandboxed(LIMPET_WORKLOAD_ATTESTOR));
  Await<std::vector<std::string>> attested(loop_);
  attestor->attest({workload, -1, 12345, 12345}, attested.done());
  const auto selectors = attested.get();
  ::kill(workload, SIGKILL);
  ::waitpid(workload, nullptr, 0);
  ASSERT_TRUE(selectors.has_value()) << selectors.error().message;
  EXPECT_THAT(*selectors, Contains("exe:" + program));
  EXPECT_THAT(*selectors, Contains("open:ok"));
  EXPECT_THAT(*selectors, Contains("me:65534"));
  EXPECT_THAT(*selectors, Contains("inet:Address family not supported by protocol"));
  EXPECT_THAT(*selectors, Contains("write:Read-only file system"));
}

TEST_F(Sandbox, OtherKindsDoNotSeeOtherProcesses) {
  auto keys = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*keys, "read:/proc/1/environ"), "Permission denied");
}

TEST_F(Sandbox, WhatIsMissingIsSaidAndRefusedWhereTheConfigurationWantsAll) {
  settings_.sandbox = false;
  (void)sandboxed();
  EXPECT_THAT(logged(), HasSubstr("a plugin's sandbox is not complete"));
  settings_.require_sandbox = true;
  const auto opened = open(LIMPET_KEY_MANAGER, mock("mock_moody_plain"));
  ASSERT_FALSE(opened.has_value());
  EXPECT_THAT(opened.error().message, HasSubstr("require_sandbox is set"));
}

}  // namespace
}  // namespace limpet
