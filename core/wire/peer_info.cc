// SPDX-License-Identifier: Apache-2.0
#include "wire/peer_info.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <span>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // Linux 6.5; older C libraries do not know it
#endif

namespace limpet::wire {
namespace {

int pidfd_of(int32_t pid) {
#ifdef SYS_pidfd_open
  if (pid > 0) return static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
#endif
  return -1;
}

int open_pidfd(int descriptor, int32_t pid) {
  int pidfd = -1;
  socklen_t size = sizeof pidfd;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0) return pidfd;
  return pidfd_of(pid);
}

// A file of /proc/<pid>, cut to what the buffer holds; empty: unreadable.
std::string_view read_proc(int32_t pid, const char* name, std::span<char> buffer) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  const ssize_t size = read(file, buffer.data(), buffer.size());
  close(file);
  return size <= 0 ? std::string_view() : std::string_view(buffer.data(), static_cast<size_t>(size));
}

// The second number of a line such as "Uid:\t0\t0\t0\t0": the effective one.
std::optional<uint32_t> effective_id(std::string_view status, std::string_view label) {
  const size_t line = status.find(label);
  if (line == std::string_view::npos) return {};
  const size_t first = status.find_first_of("0123456789", line);
  const size_t blank = status.find('\t', first);
  if (blank == std::string_view::npos) return {};
  uint32_t id = 0;
  const auto parsed = std::from_chars(status.data() + blank + 1, status.data() + status.size(), id);
  if (parsed.ec != std::errc()) return {};
  return id;
}

}  // namespace

uint64_t process_start_time(int32_t pid) {
  if (pid <= 0) return 0;
  char buffer[1024];
  std::string_view text = read_proc(pid, "stat", buffer);
  const size_t name_end = text.rfind(')');  // the second field may hold anything, blanks and parentheses too
  if (name_end == std::string_view::npos) return 0;
  text.remove_prefix(name_end + 1);
  for (int field = 3; field <= 22; ++field) {
    const size_t blank = text.find(' ');
    if (blank == std::string_view::npos) return 0;
    text.remove_prefix(blank + 1);
  }
  uint64_t start = 0;
  std::from_chars(text.data(), text.data() + text.size(), start);
  return start;
}

Peer describe_peer(const Stream& stream) {
  Peer peer;
  peer.address = stream.peer_address();
  peer.credentials = stream.credentials();
  if (!peer.credentials) return peer;
  if (stream.descriptor() >= 0) peer.pidfd = open_pidfd(stream.descriptor(), peer.credentials->pid);
  peer.process_start = process_start_time(peer.credentials->pid);
  return peer;
}

Peer describe_process(int32_t pid) {
  Peer peer;
  if (pid <= 0) return peer;
  peer.pidfd = pidfd_of(pid);
  peer.process_start = process_start_time(pid);
  char buffer[4096];  // the lines wanted stand among the first ten
  const std::string_view status = read_proc(pid, "status", buffer);
  const auto uid = effective_id(status, "\nUid:");
  const auto gid = effective_id(status, "\nGid:");
  if (uid && gid && peer.process_start != 0) peer.credentials = PeerCredentials{pid, *uid, *gid};
  return peer;
}

std::string peer_key(const Peer& peer) {
  if (peer.credentials) return "uid:" + std::to_string(peer.credentials->uid);
  return peer.address.unix_socket ? "unix" : peer.address.ip;
}

}  // namespace limpet::wire
