// SPDX-License-Identifier: Apache-2.0
// A shared object by path and digest.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/bytes.h"
#include "base/limits.h"
#include "crypto/key.h"
#include "plugin/file_checks.h"
#include "plugin/loader.h"

namespace limpet {
namespace {

std::unexpected<Error> refuse(std::string_view what, std::string_view why) {
  return fail(Code::failed_precondition, "plugin " + std::string(what) + " refused: " + std::string(why));
}

// Read, not mapped: a file that is cut short meanwhile would be our end.
Result<Bytes> read_whole(int fd, size_t size, std::string_view path) {
  Bytes content(size);
  for (size_t at = 0; at < size;) {
    const ssize_t got = ::pread(fd, content.data() + at, size - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return refuse(path, std::string("cannot be read: ") + std::strerror(errno));
    if (got == 0) return refuse(path, "it was cut short while it was read");
    at += static_cast<size_t>(got);
  }
  return content;
}

Result<size_t> check_file(int fd, std::string_view path, struct stat& st) {
  if (::fstat(fd, &st) != 0) return refuse(path, std::string("cannot be examined: ") + std::strerror(errno));
  if (!S_ISREG(st.st_mode)) return refuse(path, "it is not a regular file");
  if ((st.st_mode & S_IWOTH) != 0)
    return refuse(path, "every user may write it; run chmod o-w on it and check its content");
  const auto size = static_cast<size_t>(st.st_size);
  if (size == 0) return refuse(path, "the file is empty");
  if (size > limits::kPluginFileBytes) return refuse(path, "the file is larger than 64 MiB");
  return size;
}

// The status-change time cannot be set back by whoever writes the file.
std::array<int64_t, 3> stamp_of(const struct stat& st) { return {st.st_size, st.st_ctim.tv_sec, st.st_ctim.tv_nsec}; }

}  // namespace

PluginFile& PluginFile::operator=(PluginFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(digest_, other.digest_);
  std::swap(looked_at_, other.looked_at_);
  return *this;
}

PluginFile::~PluginFile() {
  if (fd_ >= 0) ::close(fd_);
}

// `expected` null: any digest will do.
Result<PluginFile> PluginFile::open(const std::string& path, const std::string_view* expected) {
  // without O_NONBLOCK the open of a FIFO would wait for its writer
  PluginFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd_ < 0) return fail(Code::not_found, "plugin " + path + " cannot be opened: " + std::strerror(errno));
  struct stat st = {};
  TRY_ASSIGN(const size_t size, check_file(file.fd_, path, st));
  TRY_ASSIGN(const Bytes content, read_whole(file.fd_, size, path));
  file.digest_ = hex_encode(limpet::sha256(content));
  file.looked_at_ = stamp_of(st);
  if (expected != nullptr && file.digest_ != *expected) {
    return refuse(path, "its SHA-256 is " + file.digest_ + " but the configuration expects " +
                            (expected->empty() ? "none; set sha256" : std::string(*expected)));
  }
  TRY(check_place(path));
  TRY(check_shared_object(as_text(content), path));
  return file;
}

Result<PluginFile> PluginFile::open(const std::string& path, std::string_view sha256) { return open(path, &sha256); }

Result<PluginFile> PluginFile::open_any(const std::string& path) { return open(path, nullptr); }

Result<void> PluginFile::check_again(std::string_view path) {
  struct stat st = {};
  TRY_ASSIGN(const size_t size, check_file(fd_, path, st));
  if (stamp_of(st) == looked_at_) return {};
  TRY_ASSIGN(const Bytes content, read_whole(fd_, size, path));
  if (hex_encode(limpet::sha256(content)) != digest_)
    return refuse(path, "it was written to since it was checked; put the right file in its place, then restart");
  looked_at_ = stamp_of(st);
  return {};
}

Result<const limpet_plugin*> map_plugin_at(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(Code::not_found, "plugin " + path + " cannot be opened: " + std::strerror(errno));
  return map_plugin(fd, path);
}

Result<const limpet_plugin*> load_plugin_file(const std::string& path, std::string_view sha256) {
  TRY_ASSIGN(PluginFile file, PluginFile::open(path, sha256));
  return map_plugin(std::move(file).release(), path);
}

}  // namespace limpet
