// SPDX-License-Identifier: Apache-2.0
#include "kit/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/errno_text.h"

namespace limpet::kit {
namespace {

constexpr size_t kLineEnd = 2;

std::unexpected<Error> refuse(std::string why) { return fail(Code::failed_precondition, std::move(why)); }

Result<SecretFile> read_open_file(int fd, size_t max_bytes) {
  struct stat st = {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return refuse("it is not a regular file");
  if ((st.st_mode & (S_IROTH | S_IWOTH)) != 0) return refuse("every user may read or write it; run chmod o-rw on it");
  SecretBytes text(max_bytes + kLineEnd + 1);
  const ssize_t got = ::read(fd, text.data(), text.size());
  if (got < 0) return refuse(errno_text(errno));
  text.truncate(static_cast<size_t>(got));
  trim_line_end(text);
  return SecretFile{std::move(text), int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec};
}

}  // namespace

Result<SecretFile> read_secret_file(const std::string& path, size_t max_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return refuse(errno_text(errno));
  auto file = read_open_file(fd, max_bytes);
  ::close(fd);
  return file;
}

void trim_line_end(SecretBytes& text) {
  size_t size = text.size();
  if (size > 0 && text.view()[size - 1] == '\n') --size;
  if (size > 0 && text.view()[size - 1] == '\r') --size;
  text.truncate(size);
}

}  // namespace limpet::kit
