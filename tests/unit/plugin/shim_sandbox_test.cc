// SPDX-License-Identifier: Apache-2.0
// What a plugin can and cannot do in its sandbox: asked of the mock "moody", in a child without a sanitizer. As root,
// because only root can give a process another user.
#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <filesystem>

#include "plugin/workload_attestor.h"
#include "shimmed.h"

namespace limpet {
namespace {

using namespace test;
using ::testing::Contains;
using ::testing::ContainsRegex;
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

// As shim/README.md says: whoever listens where this user may write is in its reach, whatever paths it was given.
TEST_F(Sandbox, ItReachesEveryUnixSocketThatLetsItsUserIn) {
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un at = {};
  at.sun_family = AF_UNIX;
  const std::string path = folder_ + "/api";
  path.copy(at.sun_path, sizeof at.sun_path - 1);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  ASSERT_EQ(::listen(listener, 8), 0);
  auto keys = make_key_manager(sandboxed());
  ::chmod(path.c_str(), 0666);
  EXPECT_EQ(sign(*keys, "connect:" + path), "ok");
  ::chmod(path.c_str(), 0600);
  EXPECT_EQ(sign(*keys, "connect:" + path), "Permission denied");
  ::close(listener);
}

TEST_F(Sandbox, ItStartsThreadsButNoProcesses) {
  auto keys = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*keys, "thread"), "from a thread");
  EXPECT_EQ(sign(*keys, "fork"), "Operation not permitted");
}

TEST_F(Sandbox, WhatNobodyCallsByAccidentEndsIt) {
  for (const char* call : {"exec", "ptrace", "mount"}) {
    auto keys = make_key_manager(sandboxed());
    EXPECT_THAT(sign(*keys, call), HasSubstr("killed by signal 31")) << call;
  }
}

// A process of the plugin's own user, as a daemon that is not root is: nothing but the list of calls protects it.
TEST_F(Sandbox, ItsHandsAreOffOtherProcessesOfItsUser) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t other = ::fork();
  if (other == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0 || ::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  auto keys = make_key_manager(sandboxed());
  for (const char* way : {"kill:", "limit:", "affinity:", "owner:", "group:"})
    EXPECT_EQ(sign(*keys, way + std::to_string(other)), "Operation not permitted") << way;
  ::kill(other, SIGKILL);
  ::waitpid(other, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
}

struct Kind {
  const char* interface_id;
  const char* capabilities;
};
class EachKind : public Sandbox, public ::testing::WithParamInterface<Kind> {};
INSTANTIATE_TEST_SUITE_P(Shim, EachKind,
                         ::testing::Values(Kind{LIMPET_KEY_MANAGER, "CapEff:\t0000000000000000\n"},
                                           Kind{LIMPET_WORKLOAD_ATTESTOR, "CapEff:\t0000000000080004\n"}));

TEST_P(EachKind, HasTheRightsAndTheLimitsOfTheTable) {
  const auto instance = sandboxed(GetParam().interface_id);
  const std::string proc = "/proc/" + std::to_string(only_child());
  const auto read = [&](const char* name) {
    std::ifstream in(proc + "/" + name);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  EXPECT_THAT(read("status"), HasSubstr(GetParam().capabilities));
  EXPECT_THAT(read("status"), HasSubstr("CapBnd:\t0000000000000000\n"));
  EXPECT_THAT(read("status"), HasSubstr("NoNewPrivs:\t1\n"));
  EXPECT_THAT(read("status"), HasSubstr("Seccomp:\t2\n"));
  EXPECT_EQ(read("oom_score_adj"), "500\n");
  const std::string limits = read("limits");
  EXPECT_THAT(limits, ContainsRegex("Max core file size +0 +0 "));
  EXPECT_THAT(limits, ContainsRegex("Max open files +256 +256 "));
  EXPECT_THAT(limits, ContainsRegex("Max processes +1024 +1024 "));
  EXPECT_THAT(limits, ContainsRegex("Max address space +1073741824 +1073741824 "));
  struct stat st = {};
  ASSERT_EQ(::stat((proc + "/status").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 0u);  // root's, not its user's: it cannot be looked into
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

// Not the plugin's own words: to whoever waits for its key they would mean that the key is lost.
TEST_F(Sandbox, ARefusalToStartAgainIsToldAsUnavailable) {
  settings_.write_paths = {folder_};
  auto keys = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*keys, "ok"), "digest");
  ::chmod(folder_.c_str(), 0700);
  ASSERT_EQ(::kill(only_child(), SIGKILL), 0);
  std::string answer;
  for (int i = 0; i < 500 && (answer = sign(*keys, "ok")) == "digest"; ++i) turn(10);
  EXPECT_THAT(answer, StartsWith("Unavailable"));
  EXPECT_THAT(answer, HasSubstr("cannot be written by user 65534"));
  ::chmod(folder_.c_str(), 0777);
  for (int i = 0; i < 1'000 && (answer = sign(*keys, "ok")) != "digest"; ++i) turn(10);
  EXPECT_EQ(answer, "digest");
}

TEST_F(Sandbox, ADeviceThatIsReplacedIsOpenedByANewProcess) {
  const std::string device = folder_ + "/device", another = folder_ + "/another";
  for (const std::string& path : {device, another}) {
    if (::mknod(path.c_str(), S_IFCHR | 0666, makedev(1, 7)) != 0) GTEST_SKIP() << "no device can be made here";
    ::chmod(path.c_str(), 0666);
  }
  settings_.devices = {device};
  settings_.ping_every_ms = 10;
  auto keys = make_key_manager(sandboxed());
  if (lacks("files")) GTEST_SKIP() << "no Landlock here";
  if (sign(*keys, "write:" + device) != "ok") GTEST_SKIP() << "no devices in this file system";
  std::filesystem::remove(device);
  turn(100);
  EXPECT_EQ(logged().find("was replaced"), std::string::npos);  // it may still use what it has open
  std::filesystem::rename(another, device);
  std::string answer;
  for (int i = 0; i < 500 && (answer = sign(*keys, "write:" + device)) != "ok"; ++i) turn(10);
  EXPECT_EQ(answer, "ok");
  EXPECT_THAT(logged(), HasSubstr("its device " + device + " was replaced"));
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
  if (lacks("files")) GTEST_SKIP() << "no Landlock here";
  EXPECT_EQ(sign(*keys, "read:/proc/1/comm"), "Permission denied");
  settings_.read_paths = {"/proc"};  // the file's mode lets everybody read it: only the sandbox did not
  auto told = make_key_manager(sandboxed());
  EXPECT_EQ(sign(*told, "read:/proc/1/comm"), "ok");
}

// Text of a plugin's that nothing bounds and nobody attributes: what it has to say it says by log().
TEST_F(Sandbox, WhatAPluginWritesOnStandardErrorGoesNowhere) {
  ::testing::internal::CaptureStderr();  // a child inherits it
  auto keys = make_key_manager(sandboxed());
  const std::string answer = sign(*keys, "stderr");
  const std::string written = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(answer, "written");
  EXPECT_EQ(written, "");
  EXPECT_THAT(logged(), ::testing::Not(HasSubstr("a line on standard error")));
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
