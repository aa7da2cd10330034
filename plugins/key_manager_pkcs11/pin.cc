// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/pin.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/errno_text.h"
#include "crypto/key.h"

namespace limpet::pkcs11 {
namespace {

constexpr size_t kMaxPinBytes = 255;

std::unexpected<Error> bad(const std::string& what, const std::string& why) {
  return fail(Code::permission_denied, "the PIN in " + what + ": " + why);
}

// One line end at the end is the editor's.
void trim(SecretBytes& pin) {
  size_t size = pin.size();
  if (size > 0 && pin.view()[size - 1] == '\n') --size;
  if (size > 0 && pin.view()[size - 1] == '\r') --size;
  pin.truncate(size);
}

Result<Pin> read_open_file(int fd, const std::string& path) {
  struct stat st = {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return bad(path, "it is not a regular file");
  if ((st.st_mode & (S_IROTH | S_IWOTH)) != 0) return bad(path, "every user may read it; run chmod 0600 on it");
  SecretBytes pin(kMaxPinBytes + 3);
  const ssize_t got = ::read(fd, pin.data(), pin.size());
  if (got < 0) return bad(path, errno_text(errno));
  pin.truncate(static_cast<size_t>(got));
  return Pin{std::move(pin), int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec};
}

Result<Pin> read_source(const PinSource& source) {
  if (source.file.empty()) {
    const char* text = std::getenv(source.env.c_str());
    if (text == nullptr)
      return bad(source.env,
                 "there is no such environment variable; by path a plugin runs without yours, "
                 "unless it has isolation = \"in-process\"");
    return Pin{SecretBytes(as_bytes(text)), 0};
  }
  const int fd = ::open(source.file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return bad(source.file, errno_text(errno));
  auto pin = read_open_file(fd, source.file);
  ::close(fd);
  return pin;
}

}  // namespace

Result<Pin> read_pin(const PinSource& source) {
  TRY_ASSIGN(Pin pin, read_source(source));
  trim(pin.value);
  if (pin.value.empty() || pin.value.size() > kMaxPinBytes)
    return bad(source.file.empty() ? source.env : source.file, "it must have 1 to 255 bytes");
  return pin;
}

Result<void> check_pin(const PinSource& source) {
  if (!source.given()) return {};
  auto pin = read_pin(source);
  if (!pin) return fail(std::move(pin).error());
  return {};
}

Bytes pin_digest(const Pin& pin) {
  static const auto* const salt = new SecretBytes(random_bytes(32));
  SecretBytes both(salt->size() + sizeof pin.written_ns + pin.value.size());
  std::copy(salt->view().begin(), salt->view().end(), both.data());
  std::memcpy(both.data() + salt->size(), &pin.written_ns, sizeof pin.written_ns);
  std::ranges::copy(pin.value.view(), both.data() + salt->size() + sizeof pin.written_ns);
  return sha256(both.view());
}

}  // namespace limpet::pkcs11
