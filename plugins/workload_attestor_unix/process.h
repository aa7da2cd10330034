// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the kernel says about one process, read through /proc/<pid> held open, so that everything is about the same
// process even if the pid is given away meanwhile. Microseconds, any thread.

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace limpet::workload_attestor_unix {

inline constexpr size_t kMaxGroups = 1000;  // supplementary groups of one process; the kernel allows 65,536

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

struct Process {
  pid_t pid = -1;
  uid_t uid = 0;              // effective
  gid_t gid = 0;              // effective
  std::vector<gid_t> groups;  // supplementary
  std::string path;           // of the executable; empty unless asked for
  Fd executable;              // open for reading; invalid unless asked for
};

// `pidfd` is borrowed; -1: pid reuse during the call is found by the process's start time. NOT_FOUND: it has exited, or
// the pid belongs to another process by now. PERMISSION_DENIED: not ours to read.
Result<Process> read_process(pid_t pid, int pidfd, bool with_path, bool with_executable);

// For tests: the parser of /proc/<pid>/status. INTERNAL when a line is missing or malformed.
Result<void> parse_status(std::string_view status, Process& out);

}  // namespace limpet::workload_attestor_unix
