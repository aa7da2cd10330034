// SPDX-License-Identifier: Apache-2.0
#include "wire/peer_info.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

std::optional<PeerCredentials> process_credentials(int32_t pid) {
  char buffer[4096];  // the lines wanted stand among the first ten
  const std::string_view status = read_proc(pid, "status", buffer);
  const auto uid = effective_id(status, "\nUid:");
  const auto gid = effective_id(status, "\nGid:");
  if (!uid || !gid) return {};
  return PeerCredentials{pid, *uid, *gid};
}

void read_executable(int32_t pid, Peer& peer) {
  struct stat file = {};
  const std::string path = "/proc/" + std::to_string(pid) + "/exe";
  if (::stat(path.c_str(), &file) != 0) file = {};
  peer.executable_device = file.st_dev;
  peer.executable_inode = file.st_ino;
}

bool is_still_the_same(const Peer& peer) {
  if (!peer.credentials) return false;
  const int32_t pid = peer.credentials->pid;
  if (peer.pidfd >= 0) {
    pollfd ended = {peer.pidfd, POLLIN, 0};
    if (::poll(&ended, 1, 0) != 0) return false;
  } else if (peer.process_start == 0 || process_start_time(pid) != peer.process_start) {
    return false;
  }
  const auto now = process_credentials(pid);
  if (!now || now->uid != peer.credentials->uid || now->gid != peer.credentials->gid) return false;
  if (peer.executable_inode == 0) return true;
  Peer again;
  read_executable(pid, again);
  return again.executable_device == peer.executable_device && again.executable_inode == peer.executable_inode;
}

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
  read_executable(peer.credentials->pid, peer);
  return peer;
}

Peer describe_process(int32_t pid) {
  Peer peer;
  if (pid <= 0) return peer;
  peer.pidfd = pidfd_of(pid);
  peer.process_start = process_start_time(pid);
  read_executable(pid, peer);
  if (peer.process_start != 0) peer.credentials = process_credentials(pid);
  return peer;
}

std::string peer_key(const Peer& peer) {
  if (peer.credentials) return "uid:" + std::to_string(peer.credentials->uid);
  return peer.address.unix_socket ? "unix" : peer.address.ip;
}

}  // namespace limpet::wire
