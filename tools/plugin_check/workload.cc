// SPDX-License-Identifier: Apache-2.0
// Tests of workload attestors.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugin_check/check.h"

namespace limpet::check {
namespace {

int pidfd_of(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

// A child that is over: its pid is nobody's, its pidfd says so.
struct Dead {
  Dead() {
    pid = ::fork();
    if (pid == 0) {
      for (;;) ::pause();
    }
    pidfd = pidfd_of(pid);
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  ~Dead() {
    if (pidfd >= 0) ::close(pidfd);
  }
  Dead(const Dead&) = delete;
  Dead& operator=(const Dead&) = delete;
  pid_t pid = -1;
  int pidfd = -1;
};

Workload ourselves(int pidfd) { return {::getpid(), pidfd, ::geteuid(), ::getegid()}; }

void self(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const int pidfd = pidfd_of(::getpid());
  std::string first;
  for (const int fd : {pidfd, -1}) {
    const Op& op = attest(*s, ourselves(fd));
    if (!c.succeeded(*s, op, "attest of plugin-check itself")) return;
    for (const std::string& selector : op.selectors) {
      if (selector.empty()) return c.fail("an empty selector");
    }
    if (fd == pidfd) first = told(op);
    if (fd != pidfd && told(op) != first) return c.fail("without a pidfd the selectors are others");
    c.note(std::to_string(op.selectors.size()) + " selectors");
  }
  c.destroyed(*s);
}

void borrowed_pidfd(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const int pidfd = pidfd_of(::getpid());
  if (pidfd < 0) return c.skip("this kernel has no pidfd");
  struct stat before = {};
  ::fstat(pidfd, &before);
  if (!c.answered(*s, attest(*s, ourselves(pidfd)), "attest") || !c.destroyed(*s)) return;
  struct stat after = {};
  if (::fstat(pidfd, &after) != 0 || after.st_ino != before.st_ino || after.st_dev != before.st_dev)
    c.fail("the pidfd was closed: it is borrowed");
}

void gone(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Dead dead;
  for (const int fd : {dead.pidfd, -1}) {
    const Op& op = attest(*s, {dead.pid, fd, ::geteuid(), ::getegid()});
    if (!c.answered(*s, op, "attest of a process that has ended")) return;
    if (!op.selectors.empty()) return c.fail("a process that has ended got selectors: " + op.selectors[0]);
  }
  c.destroyed(*s);
}

// The number is in use, by a process that is not the one that asked.
void reused_pid(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Dead dead;
  if (dead.pidfd < 0) return c.skip("this kernel has no pidfd");
  const Op& op = attest(*s, ourselves(dead.pidfd));
  if (!c.answered(*s, op, "attest")) return;
  if (!op.selectors.empty())
    return c.fail("a pid whose pidfd says that its process has ended got selectors: " + op.selectors[0]);
  c.destroyed(*s);
}

void odd_pids(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  for (const int pid : {0, -1, INT32_MIN, INT32_MAX}) {
    const Op& op = attest(*s, {pid, -1, 0, 0});
    if (!c.answered(*s, op, "attest")) return;
    if (!op.selectors.empty()) return c.fail("pid " + std::to_string(pid) + " got selectors: " + op.selectors[0]);
  }
  c.destroyed(*s);
}

void reference(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  Workload unknown = ourselves(-1);
  unknown.reference_type = "type.example.org/plugin-check.NobodyKnowsThis";
  unknown.reference = "\x0a\x03xyz";
  const Op& op = attest(*s, unknown);
  if (!c.answered(*s, op, "attest by reference")) return;
  if (!op.ok()) return c.fail("a reference of a kind it does not know gave " + op.outcome() + "; that is no error");
  if (!op.selectors.empty()) return c.fail("a reference of a kind it does not know got selectors: " + op.selectors[0]);
  c.destroyed(*s);
}

}  // namespace

std::span<const TestCase> workload_tests() {
  static constexpr uint32_t kKinds = of_kind(Kind::workload);
  static const TestCase kTests[] = {
      {.name = "workload.self",
       .rule = "a process is attested, with and without pidfd",
       .run = self,
       .needs = {"op.answers"},
       .kinds = kKinds,
       .present = true},
      {.name = "workload.borrowed_pidfd",
       .rule = "the pidfd stays open",
       .run = borrowed_pidfd,
       .needs = {"op.answers"},
       .kinds = kKinds},
      {.name = "workload.gone",
       .rule = "a process that has ended gets no selectors",
       .run = gone,
       .needs = {"op.answers"},
       .kinds = kKinds},
      {.name = "workload.reused_pid",
       .rule = "a pid in other hands gets no selectors",
       .run = reused_pid,
       .needs = {"workload.gone"},
       .kinds = kKinds},
      {.name = "workload.odd_pids",
       .rule = "impossible pids get no selectors",
       .run = odd_pids,
       .needs = {"op.answers"},
       .kinds = kKinds},
      {.name = "workload.reference",
       .rule = "an unknown kind of reference is a success without selectors",
       .run = reference,
       .needs = {"op.answers"},
       .kinds = kKinds},
  };
  return kTests;
}

}  // namespace limpet::check
