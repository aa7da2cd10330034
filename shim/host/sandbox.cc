// SPDX-License-Identifier: Apache-2.0
// The order matters: what needs root first, the user then, and at the end what nobody needs rights for.
#include "sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

namespace limpet::shim {
namespace {

constexpr rlim_t kMemory = sizeof(void*) == 4 ? 512u << 20 : 1024u << 20;  // address space, thread stacks included
constexpr rlim_t kFiles = 256;
constexpr rlim_t kTasks = 1024;  // of the user, whose other processes count

void limit(int what, rlim_t most) {
  const rlimit both = {most, most};
  (void)::setrlimit(static_cast<__rlimit_resource>(what), &both);
}

std::string because(const char* what) { return std::string(what) + ": " + std::strerror(errno); }

// The out-of-memory killer's first choice among us is the plugin.
void prefer_for_oom() {
  const int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  (void)!::write(fd, "500", 3);
  ::close(fd);
}

// The groups that own the devices it may use: a new user has no other way to them.
std::vector<gid_t> device_groups(const Policy& policy) {
  std::vector<gid_t> groups;
  for (const std::string& path : policy.devices) {
    struct stat st = {};
    if (::stat(path.c_str(), &st) == 0 && (st.st_mode & S_IRGRP) != 0 && st.st_gid != 0) groups.push_back(st.st_gid);
  }
  return groups;
}

std::string change_user(const Policy& policy) {
  if (policy.uid == UINT32_MAX) return "own user: the daemon is not root";
  const std::vector<gid_t> groups = device_groups(policy);
  if (policy.looks_at_processes) (void)::prctl(PR_SET_KEEPCAPS, 1);
  if (::setgroups(groups.size(), groups.data()) != 0) return because("own user: setgroups");
  if (::setresgid(policy.gid, policy.gid, policy.gid) != 0) return because("own user: setresgid");
  if (::setresuid(policy.uid, policy.uid, policy.uid) != 0) return because("own user: setresuid");
  return {};
}

std::string drop_capabilities(const Policy& policy) {
  __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct now[2] = {};
  if (::syscall(SYS_capget, &head, now) != 0) return because("capabilities");
  // another user's /proc/<pid>/exe: readlink needs the first, the way to the file the second
  const uint32_t keep = policy.looks_at_processes ? (1u << CAP_SYS_PTRACE) | (1u << CAP_DAC_READ_SEARCH) : 0;
  const uint32_t kept = now[0].permitted & keep;
  const __user_cap_data_struct wanted[2] = {{kept, kept, 0}, {0, 0, 0}};
  head = {_LINUX_CAPABILITY_VERSION_3, 0};
  if (::syscall(SYS_capset, &head, wanted) != 0) return because("capabilities");
  return {};
}

void empty_bounding_set() {
  for (int capability = 0; capability < 64; ++capability) (void)::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

}  // namespace

std::vector<std::string> enter_sandbox(const Policy& policy, int plugin_fd) {
  std::vector<std::string> missing;
  const auto note = [&missing](const char* what, const std::string& why) {
    if (!why.empty()) missing.push_back(std::string(what) + why);
  };
  prefer_for_oom();
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_NOFILE, kFiles);
  limit(RLIMIT_NPROC, kTasks);
#ifndef __SANITIZE_ADDRESS__  // its shadow alone is larger than any limit
  limit(RLIMIT_AS, kMemory);
#endif
  if (!policy.network && ::unshare(CLONE_NEWNET) != 0) {
    note("", because("own network namespace"));  // sockets other than Unix ones are refused all the same
  }
  empty_bounding_set();
  note("", change_user(policy));
  note("", drop_capabilities(policy));
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);  // here, because a change of user forgets it
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) note("", because("no new privileges"));
  (void)::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // other plugins of the same user cannot look in
  // Landlock would forbid what a workload attestor is for: looking at other users' processes
  if (!policy.looks_at_processes) note("files: ", restrict_files(policy, plugin_fd));
  note("system calls: ", restrict_calls(policy));
  return missing;
}

}  // namespace limpet::shim
