// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/pin.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "crypto/key.h"
#include "kit/secret_file.h"

namespace limpet::pkcs11 {
namespace {

constexpr size_t kMaxPinBytes = 255;

std::unexpected<Error> bad(const std::string& what, const std::string& why) {
  return fail(Code::permission_denied, "the PIN in " + what + ": " + why);
}

Result<Pin> read_source(const PinSource& source) {
  if (source.file.empty()) {
    const char* text = std::getenv(source.env.c_str());
    if (text == nullptr)
      return bad(source.env,
                 "there is no such environment variable; by path a plugin runs without yours, "
                 "unless it has isolation = \"in-process\"");
    Pin pin{SecretBytes(as_bytes(text)), 0};
    kit::trim_line_end(pin.value);
    return pin;
  }
  auto file = kit::read_secret_file(source.file, kMaxPinBytes);
  if (!file) return bad(source.file, file.error().message);
  return Pin{std::move(file->text), file->written_ns};
}

}  // namespace

Result<Pin> read_pin(const PinSource& source) {
  TRY_ASSIGN(Pin pin, read_source(source));
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
