// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/pin.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

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

Result<SecretBytes> read_open_file(int fd, const std::string& path) {
  struct stat st = {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return bad(path, "it is not a regular file");
  if ((st.st_mode & (S_IROTH | S_IWOTH)) != 0) return bad(path, "every user may read it; run chmod 0600 on it");
  SecretBytes pin(kMaxPinBytes + 3);
  const ssize_t got = ::read(fd, pin.data(), pin.size());
  if (got < 0) return bad(path, errno_text(errno));
  pin.truncate(static_cast<size_t>(got));
  return pin;
}

Result<SecretBytes> read_source(const PinSource& source) {
  if (source.file.empty()) {
    const char* text = std::getenv(source.env.c_str());
    if (text == nullptr) return bad(source.env, "there is no such environment variable");
    return SecretBytes(as_bytes(text));
  }
  const int fd = ::open(source.file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return bad(source.file, errno_text(errno));
  auto pin = read_open_file(fd, source.file);
  ::close(fd);
  return pin;
}

}  // namespace

Result<SecretBytes> read_pin(const PinSource& source) {
  TRY_ASSIGN(SecretBytes pin, read_source(source));
  trim(pin);
  if (pin.empty() || pin.size() > kMaxPinBytes)
    return bad(source.file.empty() ? source.env : source.file, "it must have 1 to 255 bytes");
  return pin;
}

Result<void> check_pin(const PinSource& source) {
  if (!source.given()) return {};
  auto pin = read_pin(source);
  if (!pin) return fail(std::move(pin).error());
  return {};
}

Bytes pin_digest(const SecretBytes& pin) {
  static const auto* const salt = new SecretBytes(random_bytes(32));
  SecretBytes both(salt->size() + pin.size());
  std::copy(salt->view().begin(), salt->view().end(), both.data());
  std::copy(pin.view().begin(), pin.view().end(), both.data() + salt->size());
  return sha256(both.view());
}

}  // namespace limpet::pkcs11
