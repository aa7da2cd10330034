// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <grp.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "carriers.h"
#include "plugin/workload_attestor.h"
#include "workload_attestor_unix/process.h"

namespace limpet {
namespace {

using namespace test;
using Selectors = std::vector<std::string>;
namespace fs = std::filesystem;

// A child that sleeps until it is told to end.
class Child {
 public:
  explicit Child(const std::string& executable = "", void (*before)() = nullptr) {
    int ready[2];
    EXPECT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      if (before != nullptr) before();
      if (!executable.empty())
        ::execl(executable.c_str(), executable.c_str(), "600", nullptr);
      else if (::write(ready[1], "x", 1) != 1)
        ::_exit(1);
      for (;;) ::pause();
    }
    ::close(ready[1]);
    char c = 0;
    while (::read(ready[0], &c, 1) < 0 && errno == EINTR) {
    }  // a byte, or the end that exec brings
    ::close(ready[0]);
    pidfd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
    EXPECT_GE(pidfd_, 0);
  }
  ~Child() {
    end();
    ::close(pidfd_);
  }
  void end() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int pidfd() const { return pidfd_; }

 private:
  pid_t pid_ = -1;
  int pidfd_ = -1;
};

class UnixWorkload : public ShippedPlugin {
 protected:
  UnixWorkload() {
    instance = create("workload_attestor_unix", LIMPET_WORKLOAD_ATTESTOR, kWorkloadAttestorPrefix);
    attestor = make_workload_attestor(instance);
  }
  void use(const std::string& json) { ASSERT_EQ(outcome(configure(*instance, json)), "ok"); }
  Result<Selectors> attest(pid_t pid, int pidfd, uid_t uid = ::geteuid(), gid_t gid = ::getegid()) {
    return wait<Selectors>([&](Done<Selectors> done) { attestor->attest({pid, pidfd, uid, gid}, std::move(done)); });
  }
  std::string sleeper() {
    const std::string to = directory + "/sleeper";
    fs::copy_file(fs::canonical("/bin/sleep"), to, fs::copy_options::overwrite_existing);
    return to;
  }
  static bool has(const Selectors& all, const std::string& one) { return std::ranges::count(all, one) == 1; }
  static bool any(const Selectors& all, std::string_view prefix) {
    return std::ranges::any_of(all, [&](const std::string& s) { return s.starts_with(prefix); });
  }
  std::shared_ptr<Instance> instance;
  std::unique_ptr<WorkloadAttestor> attestor;
};

TEST_P(UnixWorkload, RefusesAConfigurationItDoesNotUnderstand) {
  EXPECT_EQ(outcome(configure(*instance, R"({"discover_workload_paths":true})")),
            "InvalidArgument: workloadattestor(unix): unknown key \"discover_workload_paths\"; known: "
            "discover_workload_path, "
            "workload_size_limit");
  EXPECT_EQ(outcome(configure(*instance, R"({"discover_workload_path":"yes"})")),
            "InvalidArgument: workloadattestor(unix): discover_workload_path must be true or false");
  EXPECT_EQ(outcome(configure(*instance, R"({"workload_size_limit":1.5})")),
            "InvalidArgument: workloadattestor(unix): workload_size_limit must be a whole number");
}

TEST_P(UnixWorkload, TellsIdsAndNamesOfAProcess) {
  use("{}");
  const Child child;
  const auto got = attest(child.pid(), child.pidfd());
  ASSERT_EQ(outcome(got), "ok");
  EXPECT_TRUE(has(*got, "uid:" + std::to_string(::geteuid())));
  EXPECT_TRUE(has(*got, "gid:" + std::to_string(::getegid())));
  if (::geteuid() == 0) {
    EXPECT_TRUE(has(*got, "user:root"));
    EXPECT_TRUE(has(*got, "group:root"));
  }
  EXPECT_FALSE(any(*got, "path:"));
  EXPECT_FALSE(any(*got, "sha256:"));
}

TEST_P(UnixWorkload, TakesTheEffectiveIdsAndTheSupplementaryGroupsAndLeavesUnknownNamesOut) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to change ids";
  use("{}");
  const Child child("", [] {
    const gid_t groups[] = {0, 54'321};
    if (::setgroups(2, groups) != 0 || ::setresgid(0, 54'320, 0) != 0 || ::setresuid(0, 54'319, 0) != 0) ::_exit(1);
  });
  const auto got = attest(child.pid(), child.pidfd(), 54'319, 54'320);
  ASSERT_EQ(outcome(got), "ok");
  EXPECT_EQ(*got, (Selectors{"uid:54319", "gid:54320", "supplementary_gid:0", "supplementary_group:root",
                             "supplementary_gid:54321"}));
}

TEST_P(UnixWorkload, AProcessThatIsAnotherUsersByNowIsNotTheOneThatAsked) {
  use("{}");
  const Child child;
  const std::string refused = "PermissionDenied: workloadattestor(unix): process " + std::to_string(child.pid()) +
                              " has changed its user or group";
  EXPECT_EQ(outcome(attest(child.pid(), child.pidfd(), ::geteuid() + 1)), refused);
  EXPECT_EQ(outcome(attest(child.pid(), child.pidfd(), ::geteuid(), ::getegid() + 1)), refused);
}

TEST_P(UnixWorkload, TheSecondTimeNamesAreRememberedAndTheAnswerIsTheSame) {
  use("{}");
  const Child child;
  const auto first = attest(child.pid(), child.pidfd());
  Waiter<Selectors> waiter;
  attestor->attest({child.pid(), child.pidfd(), ::geteuid(), ::getegid()}, waiter.arm());
  EXPECT_EQ(loop.run_ready(), 1u) << "answered within the call: only its delivery was left";
  ASSERT_TRUE(first && waiter.result && *waiter.result);
  EXPECT_EQ(*first, **waiter.result);
}

TEST_P(UnixWorkload, TellsPathAndHashOfTheExecutable) {
  use(R"({"discover_workload_path":true})");
  const std::string executable = sleeper();
  const Child child(executable);
  const std::string digest = hex_encode(sha256(as_bytes(read(executable))));
  for (int time = 0; time < 2; ++time) {
    const auto got = attest(child.pid(), child.pidfd());
    ASSERT_EQ(outcome(got), "ok");
    EXPECT_TRUE(has(*got, "path:" + executable));
    EXPECT_TRUE(has(*got, "sha256:" + digest));
  }
}

TEST_P(UnixWorkload, HashesTheFileThatRunsNotTheOneThatTookItsName) {
  use(R"({"discover_workload_path":true})");
  const std::string executable = sleeper();
  const std::string digest = hex_encode(sha256(as_bytes(read(executable))));
  const Child child(executable);
  fs::rename(executable, executable + ".old");
  write(executable, "something else");
  const auto got = attest(child.pid(), child.pidfd());
  ASSERT_EQ(outcome(got), "ok");
  EXPECT_TRUE(has(*got, "sha256:" + digest));
  EXPECT_TRUE(has(*got, "path:" + executable + ".old"));
}

TEST_P(UnixWorkload, TheSizeLimitFailsLargeWorkloadsAndANegativeOneSkipsTheHash) {
  const std::string executable = sleeper();
  const std::string size = std::to_string(fs::file_size(executable));
  const Child child(executable);
  use(R"({"discover_workload_path":true,"workload_size_limit":)" + size + "}");
  EXPECT_EQ(outcome(attest(child.pid(), child.pidfd())), "ok");
  use(R"({"discover_workload_path":true,"workload_size_limit":100})");
  EXPECT_EQ(outcome(attest(child.pid(), child.pidfd())), "ResourceExhausted: workloadattestor(unix): workload " +
                                                             executable + ": size " + size +
                                                             " exceeds limit 100 (workload_size_limit)");
  use(R"({"discover_workload_path":true,"workload_size_limit":-1})");
  const auto got = attest(child.pid(), child.pidfd());
  ASSERT_EQ(outcome(got), "ok");
  EXPECT_TRUE(has(*got, "path:" + executable));
  EXPECT_FALSE(any(*got, "sha256:"));
}

TEST_P(UnixWorkload, APathThatIsNotUtf8IsLeftOut) {
  use(R"({"discover_workload_path":true})");
  const std::string executable = directory + "/sl\xff";
  fs::copy_file(fs::canonical("/bin/sleep"), executable);
  const Child child(executable);
  const auto got = attest(child.pid(), child.pidfd());
  ASSERT_EQ(outcome(got), "ok");
  EXPECT_FALSE(any(*got, "path:"));
  EXPECT_TRUE(any(*got, "sha256:"));
}

TEST_P(UnixWorkload, AProcessThatExitedIsNotFoundEvenWhenItsPidBelongsToAnotherNow) {
  use("{}");
  Child gone;
  const Child heir;
  const pid_t old = gone.pid();
  gone.end();
  const std::string expected = "NotFound: workloadattestor(unix): process ";
  EXPECT_EQ(outcome(attest(old, gone.pidfd())), expected + std::to_string(old) + " has exited");
  EXPECT_EQ(outcome(attest(old, -1)), expected + std::to_string(old) + " has exited");
  // The pid was given to `heir`; the descriptor still names the one that is gone.
  EXPECT_EQ(outcome(attest(heir.pid(), gone.pidfd())), expected + std::to_string(heir.pid()) + " has exited");
}

TEST_P(UnixWorkload, AZombieIsNotFound) {
  use("{}");
  const Child child;
  ::kill(child.pid(), SIGKILL);
  siginfo_t info = {};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid()), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(attest(child.pid(), child.pidfd()).error().code, Code::not_found);
}

TEST_P(UnixWorkload, WithoutAPidfdTheStartTimeDecides) {
  use("{}");
  const Child child;
  EXPECT_EQ(outcome(attest(child.pid(), -1)), "ok");
}

TEST_P(UnixWorkload, PidsThatCannotBeAreRefused) {
  use("{}");
  for (const pid_t pid : {0, -1, -7}) {
    EXPECT_EQ(outcome(attest(pid, -1)),
              "InvalidArgument: workloadattestor(unix): process " + std::to_string(pid) + " does not exist here");
  }
}

TEST_P(UnixWorkload, AWorkloadNamedByReferenceIsNotItsOwn) {
  use("{}");
  const auto got = wait<Selectors>([&](Done<Selectors> done) {
    instance->run<Selectors>(
        [table = instance->table<limpet_workload_attestor>()](limpet_instance* self, limpet_op* op) {
          const limpet_workload w = {sizeof w, ::getpid(), -1, 0, 0, 0, {"type.example/x", 14}, {}};
          table->attest(self, op, &w, [](limpet_op* o, const limpet_status* err, limpet_str_list list) {
            answer_op<Selectors>(o, err, [&] { return Selectors(list.count, "some"); });
          });
        },
        1000, std::move(done));
  });
  ASSERT_EQ(outcome(got), "ok");
  EXPECT_TRUE(got->empty());
}

TEST_P(UnixWorkload, ManyAtOnceAreAllAnsweredAndClosingAmongThemIsSafe) {
  use(R"({"discover_workload_path":true})");
  const Child child(sleeper());
  std::vector<std::unique_ptr<Waiter<Selectors>>> waiters;
  for (int i = 0; i < 40; ++i) {
    waiters.push_back(std::make_unique<Waiter<Selectors>>());
    attestor->attest({child.pid(), child.pidfd(), 0, 0}, waiters.back()->arm());
  }
  attestor.reset();
  for (const auto& waiter : waiters) EXPECT_TRUE(waiter->result.has_value());
}

BOTH_CARRIERS(UnixWorkload);

TEST(ParseStatus, RefusesWhatIsNotAStatusFile) {
  const std::string_view bad[] = {
      "",
      "Uid:\t1\n",
      "Uid:\t1\t2\t3\t4\n",
      "Uid:\t1\t2\nGid:\tx\t2\nGroups:\t\n",
      "Uid:\t1\t2\nGid:\t1\t2\n",
      "Uid:\t1\t2\nGid:\t1\t2\nGroups:\t5 six\n",
      "Uid:\t1\t99999999999\nGid:\t1\t2\nGroups:\n",
      "Uid:\t1\t-2\nGid:\t1\t2\nGroups:\n",
  };
  for (const std::string_view text : bad) {
    workload_attestor_unix::Process out;
    EXPECT_FALSE(workload_attestor_unix::parse_status(text, out)) << text;
  }
  std::string many = "Uid:\t1\t2\nGid:\t1\t2\nGroups:\t";
  for (size_t i = 0; i <= workload_attestor_unix::kMaxGroups; ++i) many += "7 ";
  workload_attestor_unix::Process out;
  EXPECT_EQ(workload_attestor_unix::parse_status(many, out).error().code, Code::resource_exhausted);
}

TEST(ParseStatus, ReadsTheEffectiveIds) {
  workload_attestor_unix::Process out;
  ASSERT_TRUE(workload_attestor_unix::parse_status(
      "Name:\tUid: 9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 11 \nVmPeak:\t1 kB\n", out));
  EXPECT_EQ(out.uid, 2u);
  EXPECT_EQ(out.gid, 6u);
  EXPECT_EQ(out.groups, (std::vector<gid_t>{10, 11}));
}

}  // namespace
}  // namespace limpet
