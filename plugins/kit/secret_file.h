// SPDX-License-Identifier: Apache-2.0
#pragma once
// A password or PIN in a file. Blocks: call it on a BLOCKING plugin's thread.

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/secret.h"

namespace limpet::kit {

struct SecretFile {
  SecretBytes text;        // without the one line end at its end, which is the editor's
  int64_t written_ns = 0;  // the file's modification time
};

// One that every user may read or write is refused. Of a file that is too long there is more than `max_bytes`, not all.
// FAILED_PRECONDITION; the message does not name the file.
Result<SecretFile> read_secret_file(const std::string& path, size_t max_bytes);
void trim_line_end(SecretBytes& text);

}  // namespace limpet::kit
