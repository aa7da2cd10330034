// SPDX-License-Identifier: Apache-2.0
// A shared object by path and digest.
#include <fcntl.h>
#include <sys/mman.h>
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

Result<std::string> digest_of(int fd, size_t size, std::string_view path) {
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) return refuse(path, std::string("cannot be read: ") + std::strerror(errno));
  const Bytes sum = sha256({static_cast<const uint8_t*>(map), size});
  ::munmap(map, size);
  return hex_encode(sum);
}

Result<size_t> check_file(int fd, std::string_view path) {
  struct stat st = {};
  if (::fstat(fd, &st) != 0) return refuse(path, std::string("cannot be examined: ") + std::strerror(errno));
  if (!S_ISREG(st.st_mode)) return refuse(path, "it is not a regular file");
  if ((st.st_mode & S_IWOTH) != 0)
    return refuse(path, "every user may write it; run chmod o-w on it and check its content");
  const auto size = static_cast<size_t>(st.st_size);
  if (size == 0) return refuse(path, "the file is empty");
  if (size > limits::kPluginFileBytes) return refuse(path, "the file is larger than 64 MiB");
  return size;
}

}  // namespace

PluginFile& PluginFile::operator=(PluginFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

PluginFile::~PluginFile() {
  if (fd_ >= 0) ::close(fd_);
}

// `expected` null: any digest will do.
Result<PluginFile> PluginFile::open(const std::string& path, const std::string_view* expected, std::string& digest) {
  // without O_NONBLOCK the open of a FIFO would wait for its writer
  PluginFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd_ < 0) return fail(Code::not_found, "plugin " + path + " cannot be opened: " + std::strerror(errno));
  TRY_ASSIGN(const size_t size, check_file(file.fd_, path));
  TRY_ASSIGN(digest, digest_of(file.fd_, size, path));
  if (expected != nullptr && digest != *expected) {
    return refuse(path, "its SHA-256 is " + digest + " but the configuration expects " +
                            (expected->empty() ? "none; set sha256" : std::string(*expected)));
  }
  TRY(check_place(path));
  TRY(check_shared_object(file.fd_, size, path));
  return file;
}

Result<PluginFile> PluginFile::open(const std::string& path, std::string_view sha256) {
  std::string digest;
  return open(path, &sha256, digest);
}

Result<PluginFile> PluginFile::open_any(const std::string& path, std::string& sha256) {
  return open(path, nullptr, sha256);
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
