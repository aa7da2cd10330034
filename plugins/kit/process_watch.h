// SPDX-License-Identifier: Apache-2.0
#pragma once
// Notices that a process number has changed hands: by the caller's pidfd, or on kernels without one (before 5.3) by the
// process's start time, which sees what happens from now on but not what happened before. Microseconds, any thread.

#include <sys/types.h>

#include <string>

#include "base/result.h"

namespace limpet::kit {

class ProcessWatch {
 public:
  // `pidfd` is borrowed and outlives the watch; -1: there is none. NOT_FOUND: no such process.
  static Result<ProcessWatch> begin(pid_t pid, int pidfd);
  // NOT_FOUND: it has exited, and the number may be another's.
  [[nodiscard]] Result<void> still_there() const;

 private:
  ProcessWatch(pid_t pid, int pidfd) : pid_(pid), pidfd_(pidfd) {}
  pid_t pid_;
  int pidfd_;
  std::string started_;  // only without a pidfd
};

}  // namespace limpet::kit
