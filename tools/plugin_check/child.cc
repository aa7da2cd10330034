// SPDX-License-Identifier: Apache-2.0
// Children, and what became of them.
#include "plugin_check/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace limpet::check {
namespace {

constexpr size_t kOutputBytes = 4'000;   // of what a process wrote: the end
constexpr size_t kAnswerBytes = 32'768;  // fits a pipe: nobody reads it before the child has ended

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote <= 0) return;
    text.remove_prefix(static_cast<size_t>(wrote));
  }
}

// At most `most` bytes: another process may write on and on.
std::string read_some(int fd, size_t most) {
  std::string out(most, 0);
  size_t have = 0;
  for (ssize_t got = 0; have < most && (got = ::read(fd, out.data() + have, most - have)) > 0;)
    have += static_cast<size_t>(got);
  out.resize(have);
  return out;
}

std::string end_of(int output) {
  const off_t size = ::lseek(output, 0, SEEK_END);
  const off_t from = std::max<off_t>(0, size - static_cast<off_t>(kOutputBytes));
  ::lseek(output, from, SEEK_SET);
  return read_some(output, kOutputBytes);
}

Outcome outcome_of(int status, bool late, int64_t limit_ms) {
  if (late) return {Status::failed, "it did not end within " + std::to_string(limit_ms / 1000) + " s"};
  if (!WIFSIGNALED(status))
    return {Status::crashed, "the process ended with code " + std::to_string(WEXITSTATUS(status))};
  const int number = WTERMSIG(status);
  return {Status::crashed, "ended by signal " + std::to_string(number) + " (" + ::strsignal(number) + ")"};
}

}  // namespace

void spawn(Child& child, const std::function<std::string()>& work) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  child.output = ::memfd_create("output", MFD_CLOEXEC);
  child.began = Clock::now();
  std::fflush(nullptr);
  child.pid = ::fork();
  if (child.pid < 0) std::abort();  // kill(-1) would be everybody's end
  if (child.pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(child.output, STDOUT_FILENO);
    ::dup2(child.output, STDERR_FILENO);
    write_all(ends[1], work().substr(0, kAnswerBytes));
    ::_exit(0);  // nothing of the plugin's runs any more, and no leak checker
  }
  ::close(ends[1]);
  child.answer = ends[0];
  ::fcntl(child.answer, F_SETFL, O_NONBLOCK);
}

std::optional<Ending> collect(Child& child, int64_t limit_ms) {
  int status = 0;
  const bool late = Clock::now() - child.began > std::chrono::milliseconds(limit_ms);
  if (late) ::kill(child.pid, SIGKILL);
  if (::waitpid(child.pid, &status, late ? 0 : WNOHANG) != child.pid) return std::nullopt;
  Ending out;
  // what a process said that ended in another way is not what the work returned
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) out.said = read_some(child.answer, kAnswerBytes);
  out.silent = outcome_of(status, late, limit_ms);
  out.output = end_of(child.output);
  out.took_ms = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - child.began).count();
  ::close(child.answer);
  ::close(child.output);
  return out;
}

}  // namespace limpet::check
