// SPDX-License-Identifier: Apache-2.0
// Landlock: the files and devices a plugin may reach, whatever its user could. The numbers are the kernel's (uapi
// linux/landlock.h), written out because the headers of a distribution are often older than its kernel.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "sandbox.h"

namespace limpet::shim {
namespace {

constexpr long kCreateRuleset = 444, kAddRule = 445, kRestrictSelf = 446;  // the same on every architecture
constexpr uint64_t kExecute = 1, kWrite = 2, kRead = 4, kReadDir = 8, kMakeChar = 1 << 6, kMakeBlock = 1 << 11;
constexpr uint64_t kIoctlDev = 1 << 15;
constexpr uint64_t kFileRights = kExecute | kWrite | kRead | (1 << 14) | kIoctlDev;  // those a plain file may have

struct Ruleset {
  uint64_t files;
  uint64_t net;
  uint64_t scoped;
};
struct __attribute__((packed)) PathRule {
  uint64_t allowed;
  int32_t fd;
};

uint64_t file_rights(long version) {
  uint64_t rights = (1u << 13) - 1;
  if (version >= 2) rights |= 1u << 13;  // refer
  if (version >= 3) rights |= 1u << 14;  // truncate
  if (version >= 5) rights |= kIoctlDev;
  return rights;
}

class Rules {
 public:
  Rules(int fd, uint64_t handled) : fd_(fd), handled_(handled) {}
  // A path that is not there needs no rule.
  void allow(const std::string& path, uint64_t rights) {
    const int fd = ::open(path.c_str(), O_PATH | O_CLOEXEC);
    if (fd < 0) return;
    allow(fd, rights);
    ::close(fd);
  }
  void allow(int fd, uint64_t rights) {
    struct stat st = {};
    if (::fstat(fd, &st) != 0) return;
    if (!S_ISDIR(st.st_mode)) rights &= kFileRights;
    const PathRule rule = {rights & handled_, fd};
    (void)::syscall(kAddRule, fd_, 1, &rule, 0);
  }

 private:
  int fd_;
  uint64_t handled_;
};

}  // namespace

std::string restrict_files(const Policy& policy, int plugin_fd) {
  const long version = ::syscall(kCreateRuleset, nullptr, 0, 1);
  if (version < 1) return std::string("the kernel has no Landlock: ") + std::strerror(errno);
  Ruleset wanted = {file_rights(version), 0, 0};
  if (version >= 4 && !policy.network) wanted.net = 3;  // bind and connect of TCP
  if (version >= 6) wanted.scoped = 3;                  // abstract Unix sockets, signals
  const size_t size = version >= 6 ? sizeof wanted : version >= 4 ? 16 : 8;
  const auto ruleset = static_cast<int>(::syscall(kCreateRuleset, &wanted, size, 0));
  if (ruleset < 0) return std::string("Landlock refuses the rules: ") + std::strerror(errno);
  Rules rules(ruleset, wanted.files);
  constexpr uint64_t kLook = kExecute | kRead | kReadDir;
  for (const char* path :
       {"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/localtime", "/etc/nsswitch.conf",
        "/etc/passwd", "/etc/group", "/etc/ssl", "/etc/tpm2-tss", "/etc/pkcs11", "/proc/self", "/proc/meminfo",
        "/proc/cpuinfo", "/sys/devices/system/cpu", "/dev/urandom", "/dev/random"}) {
    rules.allow(path, kLook);
  }
  if (policy.network) {
    for (const char* path : {"/etc/resolv.conf", "/etc/hosts", "/etc/gai.conf", "/etc/services"})
      rules.allow(path, kRead);
  }
  for (const char* path : {"/dev/null", "/dev/zero"}) rules.allow(path, kRead | kWrite);
  for (const std::string& path : policy.devices) rules.allow(path, kRead | kWrite | kIoctlDev);
  for (const std::string& path : policy.read_paths) rules.allow(path, kLook);
  for (const std::string& path : policy.write_paths)
    rules.allow(path, ~(kExecute | kMakeChar | kMakeBlock | kIoctlDev));
  rules.allow(plugin_fd, kRead | kExecute);
  const long done = ::syscall(kRestrictSelf, ruleset, 0);
  const int error = errno;
  ::close(ruleset);
  return done == 0 ? std::string() : std::string("Landlock cannot be entered: ") + std::strerror(error);
}

}  // namespace limpet::shim
