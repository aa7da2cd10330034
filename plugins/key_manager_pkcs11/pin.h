// SPDX-License-Identifier: Apache-2.0
#pragma once
// The PIN, read when it is needed and not kept. It never stands in a message. Any thread.

#include <string>

#include "base/bytes.h"
#include "base/secret.h"

namespace limpet::pkcs11 {

struct PinSource {
  std::string file;
  std::string env;  // name of an environment variable
  [[nodiscard]] bool given() const { return !file.empty() || !env.empty(); }
  bool operator==(const PinSource&) const = default;
};

Result<void> check_pin(const PinSource& source);  // that it can be read; PERMISSION_DENIED names the file or variable
struct Pin {
  SecretBytes value;
  int64_t written_ns = 0;  // the file's modification time
};
Result<Pin> read_pin(const PinSource& source);
// By which a PIN is recognised again in this process, and in no other; the same PIN written anew is another.
Bytes pin_digest(const Pin& pin);

}  // namespace limpet::pkcs11
