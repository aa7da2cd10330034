// SPDX-License-Identifier: Apache-2.0
#include "link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace limpet::shim {
namespace {
constexpr size_t kReadBytes = 16u << 10;
constexpr size_t kFdsAtOnce = 8;
}  // namespace

void Link::send(FrameWriter&& frame) {
  const Bytes bytes = std::move(frame).finish();
  const std::lock_guard lock(writing_);
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t sent = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) ::_exit(1);  // the daemon hung up
    at += static_cast<size_t>(sent);
  }
}

bool Link::receive(bool wait) {
  uint8_t buffer[kReadBytes];
  alignas(cmsghdr) char control[CMSG_SPACE(kFdsAtOnce * sizeof(int))];
  iovec part = {buffer, sizeof buffer};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(fd_, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
  if (got < 0) return errno == EINTR || errno == EAGAIN;
  if (got == 0) return false;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    for (size_t i = 0; i < (head->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof fd);
      fds_.push_back(fd);
    }
  }
  splitter_.add({buffer, static_cast<size_t>(got)});
  return true;
}

int Link::take_fd() {
  if (fds_.empty()) return -1;
  const int fd = fds_.front();
  fds_.pop_front();
  return fd;
}

}  // namespace limpet::shim
