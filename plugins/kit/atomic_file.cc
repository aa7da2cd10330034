// SPDX-License-Identifier: Apache-2.0
#include "kit/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/errno_text.h"
#include "base/sync_directory.h"

namespace limpet::kit {
namespace {

std::unexpected<Error> failed(const std::string& what) {
  return fail(Code::unavailable, what + ": " + errno_text(errno));
}

Result<void> write_all(int fd, BytesView bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return failed("write");
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  if (::fsync(fd) != 0) return failed("fsync");
  return {};
}

}  // namespace

Result<void> replace_file(const std::string& path, BytesView content) {
  const std::string fresh = path + ".new";
  ::unlink(fresh.c_str());  // left behind by a power cut
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return failed(fresh);
  Result<void> written = write_all(fd, content);
  if (::close(fd) != 0 && written) written = failed("close");
  if (written && ::rename(fresh.c_str(), path.c_str()) != 0) written = failed("rename");
  if (!written) {
    ::unlink(fresh.c_str());
    return fail(std::move(written).error().within(fresh));
  }
  sync_directory_of(path);
  return {};
}

Result<void> remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failed(path);
  sync_directory_of(path);
  return {};
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

Result<void> FileLock::take(const std::string& path) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd_ < 0) return fail(Code::failed_precondition, path + ": " + errno_text(errno));
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return {};
  return fail(Code::failed_precondition, path + " is held by another instance; give each its own directory");
}

}  // namespace limpet::kit
