// SPDX-License-Identifier: Apache-2.0
#include "wire/peer_info.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // Linux 6.5; older C libraries do not know it
#endif

namespace limpet::wire {
namespace {

int open_pidfd(int descriptor, int32_t pid) {
  int pidfd = -1;
  socklen_t size = sizeof pidfd;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0) return pidfd;
#ifdef SYS_pidfd_open
  if (pid > 0) return static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
#endif
  return -1;
}

}  // namespace

uint64_t process_start_time(int32_t pid) {
  if (pid <= 0) return 0;
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char buffer[1024];
  const ssize_t size = read(file, buffer, sizeof buffer);
  close(file);
  if (size <= 0) return 0;
  std::string_view text(buffer, static_cast<size_t>(size));
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

std::string peer_key(const Peer& peer) {
  if (peer.credentials) return "uid:" + std::to_string(peer.credentials->uid);
  return peer.address.unix_socket ? "unix" : peer.address.ip;
}

}  // namespace limpet::wire
