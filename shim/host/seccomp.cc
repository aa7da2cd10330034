// SPDX-License-Identifier: Apache-2.0
// seccomp: the system calls of a plugin, as a BPF program written here; a list of allowed calls and a few rules
// about arguments need no library. What is not on the list does not exist (ENOSYS), so that libraries fall back; what
// nobody tries by accident (exec, ptrace, mount, modules) ends the process.
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "sandbox.h"

namespace limpet::shim {
namespace {

#if defined(__x86_64__) && !defined(__ILP32__)
#define LIMPET_ARCH AUDIT_ARCH_X86_64
#elif defined(__i386__)
#define LIMPET_ARCH AUDIT_ARCH_I386
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define LIMPET_ARCH AUDIT_ARCH_AARCH64
#elif defined(__arm__) && defined(__ARMEL__)
#define LIMPET_ARCH AUDIT_ARCH_ARM
#elif defined(__riscv) && __riscv_xlen == 64
#define LIMPET_ARCH AUDIT_ARCH_RISCV64
#endif

#ifdef LIMPET_ARCH
constexpr int kAllowed[] = {
#define CALL(name) __NR_##name,
#include "allowed_calls.inc"
#undef CALL
};
// For plugins with a place to write to.
constexpr int kWriting[] = {
#define WRITING_CALL(name) __NR_##name,
#include "allowed_calls.inc"
#undef WRITING_CALL
};
constexpr int kDeadly[] = {
#define DEADLY_CALL(name) __NR_##name,
#include "allowed_calls.inc"
#undef DEADLY_CALL
};

constexpr uint32_t kNr = offsetof(seccomp_data, nr);
constexpr uint32_t kArch = offsetof(seccomp_data, arch);
constexpr uint32_t low_word(int argument) {  // all five architectures are little-endian
  return static_cast<uint32_t>(offsetof(seccomp_data, args)) + 8u * static_cast<uint32_t>(argument);
}
constexpr uint32_t refuse(int error) { return SECCOMP_RET_ERRNO | static_cast<uint32_t>(error); }

class Program {
 public:
  explicit Program(const Policy& policy) {
    load(kArch);
    skip_if_equal(LIMPET_ARCH, 1);
    give(SECCOMP_RET_KILL_PROCESS);
    load(kNr);
#ifdef __x86_64__
    add(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1);  // the x32 calls are the same ones under other numbers
    give(SECCOMP_RET_KILL_PROCESS);
#endif
    threads_only();
    sockets(policy.network);
    itself_only();
    no_owners();
    process_names_only();
    if (policy.looks_at_processes && policy.write_paths.empty()) read_only();
    for (const int nr : kAllowed) on(nr, SECCOMP_RET_ALLOW);
    if (!policy.write_paths.empty()) {
      for (const int nr : kWriting) on(nr, SECCOMP_RET_ALLOW);
    }
    for (const int nr : kDeadly) on(nr, SECCOMP_RET_KILL_PROCESS);
    give(refuse(ENOSYS));
  }
  sock_fprog program() { return {static_cast<unsigned short>(code_.size()), code_.data()}; }

 private:
  void add(int code, uint32_t k, uint8_t if_true = 0, uint8_t if_false = 0) {
    code_.push_back({static_cast<uint16_t>(code), if_true, if_false, k});
  }
  void load(uint32_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset); }
  void give(uint32_t verdict) { add(BPF_RET | BPF_K, verdict); }
  void skip_if_equal(uint32_t value, uint8_t steps) { add(BPF_JMP | BPF_JEQ | BPF_K, value, steps, 0); }
  void on(int nr, uint32_t verdict) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(nr), 0, 1);
    give(verdict);
  }
  // A rule for one call: `body` follows, ends with verdicts, and is jumped over for all others.
  template <class Body>
  void rule(int nr, Body body) {
    const size_t jump = code_.size();
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(nr), 0, 0);
    body();
    code_[jump].jf = static_cast<uint8_t>(code_.size() - jump - 1);
  }
  // Allowed when all of `bits` are clear in the argument, else an error.
  void clear_bits(int nr, int argument, uint32_t bits, int error) {
    rule(nr, [&] {
      load(low_word(argument));
      add(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
      give(refuse(error));
      give(SECCOMP_RET_ALLOW);
    });
  }
  void one_of(int nr, int argument, std::initializer_list<uint32_t> values, int error) {
    rule(nr, [&] {
      load(low_word(argument));
      for (const uint32_t value : values) on(static_cast<int>(value), SECCOMP_RET_ALLOW);
      give(refuse(error));
    });
  }

  void none_of(int nr, int argument, std::initializer_list<uint32_t> values, int error) {
    rule(nr, [&] {
      load(low_word(argument));
      for (const uint32_t value : values) on(static_cast<int>(value), refuse(error));
      give(SECCOMP_RET_ALLOW);
    });
  }

  void threads_only() {
    rule(__NR_clone, [&] {
      load(low_word(0));
      add(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
      give(refuse(EPERM));
      add(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET, 0, 1);
      give(refuse(EPERM));
      give(SECCOMP_RET_ALLOW);
    });
  }
  void sockets(bool network) {
#ifdef __NR_socketcall
    // its arguments are in memory, out of reach: socket() itself only where every family is allowed
    rule(__NR_socketcall, [&] {
      load(low_word(0));
      if (!network) on(1, refuse(EAFNOSUPPORT));
      give(SECCOMP_RET_ALLOW);
    });
#endif
    if (network) {
      one_of(__NR_socket, 0, {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK}, EAFNOSUPPORT);
    } else {
      one_of(__NR_socket, 0, {AF_UNIX}, EAFNOSUPPORT);
    }
  }
  // Without root the daemon has the child's user, and only these rules keep the child's hands off it: a processor limit
  // of one second kills, a limit of no descriptors makes deaf.
  void itself_only() {
    const auto me = static_cast<uint32_t>(::getpid());
    one_of(__NR_tgkill, 0, {me}, EPERM);  // abort() is one
#ifdef __NR_prlimit64
    one_of(__NR_prlimit64, 0, {0, me}, EPERM);
#endif
#ifdef __NR_sched_setaffinity
    one_of(__NR_sched_setaffinity, 0, {0, me}, EPERM);
#endif
  }
  // A descriptor's owner gets signals of the child's choice.
  void no_owners() {
    const std::initializer_list<uint32_t> owner = {F_SETOWN, F_SETOWN_EX, F_SETSIG};
#ifdef __NR_fcntl
    none_of(__NR_fcntl, 1, owner, EPERM);
#endif
#ifdef __NR_fcntl64
    none_of(__NR_fcntl64, 1, owner, EPERM);
#endif
    none_of(__NR_ioctl, 1, {FIOSETOWN, SIOCSPGRP}, EPERM);
  }
  void process_names_only() { one_of(__NR_prctl, 0, {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, 0x53564d41}, EPERM); }
  void read_only() {
    constexpr uint32_t kWrites = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;
#ifdef __NR_open
    clear_bits(__NR_open, 1, kWrites, EROFS);
#endif
    clear_bits(__NR_openat, 2, kWrites, EROFS);
  }

  std::vector<sock_filter> code_;
};
#endif

}  // namespace

std::string restrict_calls(const Policy& policy) {
#ifdef LIMPET_ARCH
  Program filter(policy);
  sock_fprog program = filter.program();
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0) return {};
  return std::string("the kernel refuses the filter: ") + std::strerror(errno);
#else
  (void)policy;
  return "there is no list of system calls for this architecture";
#endif
}

}  // namespace limpet::shim
