// SPDX-License-Identifier: Apache-2.0
// Reading /proc/<pid>.
#include "workload_attestor_unix/process.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "kit/process_watch.h"

namespace limpet::workload_attestor_unix {
namespace {

constexpr size_t kMaxStatusBytes = 1u << 20;  // 65,536 groups of ten digits make 720 kB

std::string name_of(pid_t pid) { return "process " + std::to_string(pid); }

std::unexpected<Error> gone(pid_t pid) { return fail(Code::not_found, name_of(pid) + " has exited"); }

std::unexpected<Error> failed(pid_t pid, const char* what, int why) {
  if (why == ESRCH || why == ENOENT) return gone(pid);
  std::string text = name_of(pid) + ": " + what + ": " + std::strerror(why);
  if (why != EACCES && why != EPERM) return fail(Code::internal, std::move(text));
  return fail(Code::permission_denied,
              text + "; the agent needs CAP_SYS_PTRACE, and CAP_DAC_READ_SEARCH to read the file");
}

Result<std::string> read_small(int directory, const char* name, pid_t pid) {
  const Fd file(::openat(directory, name, O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return failed(pid, name, errno);
  std::string text;
  for (size_t room = 4096;; room *= 2) {
    const size_t had = text.size();
    text.resize(had + room);
    const ssize_t got = ::read(file.get(), text.data() + had, room);
    if (got < 0) return failed(pid, name, errno);
    text.resize(had + static_cast<size_t>(got));
    if (static_cast<size_t>(got) < room) return text;  // the kernel makes these files in one piece: short means the end
    if (text.size() > kMaxStatusBytes)
      return fail(Code::resource_exhausted, name_of(pid) + ": " + name + " is larger than 1 MiB");
  }
}

// The value of a line "Name:\t..."; nullopt when there is none.
std::optional<std::string_view> line_of(std::string_view status, std::string_view name) {
  while (!status.empty()) {
    const size_t end = status.find('\n');
    const std::string_view line = status.substr(0, end);
    if (line.starts_with(name)) return line.substr(name.size());
    if (end == std::string_view::npos) break;
    status.remove_prefix(end + 1);
  }
  return std::nullopt;
}

// The next decimal number; nullopt at the end, an error on anything else.
Result<std::optional<uint32_t>> next_number(std::string_view& text) {
  while (!text.empty() && (text[0] == ' ' || text[0] == '\t')) text.remove_prefix(1);
  if (text.empty()) return std::optional<uint32_t>();
  uint32_t value = 0;
  const auto [end, why] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (why != std::errc()) return fail(Code::internal, "a number was expected");
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return std::optional<uint32_t>(value);
}

Result<uint32_t> second_number(std::string_view status, std::string_view name) {
  const auto line = line_of(status, name);
  if (!line) return fail(Code::internal, "/proc/<pid>/status has no line " + std::string(name));
  std::string_view rest = *line;
  TRY_ASSIGN(const auto first, next_number(rest));
  TRY_ASSIGN(const auto second, next_number(rest));
  if (!first || !second) return fail(Code::internal, "/proc/<pid>/status: short line " + std::string(name));
  return *second;
}

Result<std::string> read_link(int directory, pid_t pid) {
  char target[PATH_MAX];
  const ssize_t size = ::readlinkat(directory, "exe", target, sizeof target);
  if (size < 0) return failed(pid, "exe", errno);
  return std::string(target, static_cast<size_t>(size));
}

Result<Process> read_held(int directory, pid_t pid, bool with_path, bool with_executable) {
  Process out;
  out.pid = pid;
  TRY_ASSIGN(const std::string status, read_small(directory, "status", pid));
  TRY_WITHIN(name_of(pid), parse_status(status, out));
  if (with_path) {
    TRY_ASSIGN(out.path, read_link(directory, pid));
  }
  if (with_executable) {
    out.executable = Fd(::openat(directory, "exe", O_RDONLY | O_CLOEXEC));
    if (!out.executable.valid()) return failed(pid, "exe", errno);
  }
  return out;
}

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Result<void> parse_status(std::string_view status, Process& out) {
  TRY_ASSIGN(out.uid, second_number(status, "Uid:"));
  TRY_ASSIGN(out.gid, second_number(status, "Gid:"));
  const auto groups = line_of(status, "Groups:");
  if (!groups) return fail(Code::internal, "/proc/<pid>/status has no line Groups:");
  std::string_view rest = *groups;
  for (;;) {
    TRY_ASSIGN_WITHIN("/proc/<pid>/status: Groups", const auto group, next_number(rest));
    if (!group) return {};
    if (out.groups.size() == kMaxGroups) return fail(Code::resource_exhausted, "more than 1,000 supplementary groups");
    out.groups.push_back(*group);
  }
}

Result<Process> read_process(pid_t pid, int pidfd, bool with_path, bool with_executable) {
  TRY_ASSIGN(const kit::ProcessWatch watch, kit::ProcessWatch::begin(pid, pidfd));
  const std::string name = "/proc/" + std::to_string(pid);
  const Fd directory(::open(name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return failed(pid, "open", errno);
  // Still alive with the directory open: the directory is this process's, whatever becomes of the number.
  TRY(watch.still_there());
  TRY_ASSIGN(Process out, read_held(directory.get(), pid, with_path, with_executable));
  if (pidfd < 0) {
    TRY(watch.still_there());
  }
  return out;
}

}  // namespace limpet::workload_attestor_unix
