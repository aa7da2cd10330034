// SPDX-License-Identifier: Apache-2.0
// The two ways of telling a process from its successor.
#include "kit/process_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace limpet::kit {
namespace {

std::string name_of(pid_t pid) { return "process " + std::to_string(pid); }

std::unexpected<Error> gone(pid_t pid) { return fail(Code::not_found, name_of(pid) + " has exited"); }

// Field 22 of /proc/<pid>/stat, found behind the command's last ')': the command may hold anything. The line is shorter
// than a page: the command has at most 64 bytes, the rest is numbers.
Result<std::string> start_time(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  char text[4096];
  const ssize_t got = file < 0 ? -1 : ::read(file, text, sizeof text);
  const int why = errno;
  if (file >= 0) ::close(file);
  if (got < 0 && (why == ENOENT || why == ESRCH)) return gone(pid);
  if (got < 0) return fail(Code::internal, name_of(pid) + ": stat: " + std::strerror(why));
  const std::string stat(text, static_cast<size_t>(got));
  size_t at = stat.rfind(')');
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = stat.find(' ', at + 1);
  if (at == std::string::npos) return fail(Code::internal, name_of(pid) + ": stat has too few fields");
  return stat.substr(at + 1, stat.find(' ', at + 1) - at - 1);
}

}  // namespace

Result<ProcessWatch> ProcessWatch::begin(pid_t pid, int pidfd) {
  if (pid <= 0) return fail(Code::invalid_argument, name_of(pid) + " does not exist here");
  ProcessWatch watch(pid, pidfd);
  if (pidfd < 0) {
    TRY_ASSIGN(watch.started_, start_time(pid));
  }
  return watch;
}

Result<void> ProcessWatch::still_there() const {
  if (pidfd_ >= 0) {
    pollfd p = {pidfd_, POLLIN, 0};  // readable when the process has ended, reaped or not
    if (::poll(&p, 1, 0) != 0) return gone(pid_);
    return {};
  }
  TRY_ASSIGN(const std::string now, start_time(pid_));
  if (now != started_) return gone(pid_);
  return {};
}

}  // namespace limpet::kit
