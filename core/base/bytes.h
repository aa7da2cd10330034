// SPDX-License-Identifier: Apache-2.0
#pragma once
// Bytes and views of them, and the text encodings the project needs. Views are parameters, never stored.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limpet {

using Bytes = std::vector<uint8_t>;
using BytesView = std::span<const uint8_t>;

inline BytesView as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(BytesView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
inline Bytes to_bytes(BytesView view) { return Bytes(view.begin(), view.end()); }
inline Bytes to_bytes(std::string_view text) { return to_bytes(as_bytes(text)); }
inline void append(Bytes& out, BytesView more) { out.insert(out.end(), more.begin(), more.end()); }

std::string hex_encode(BytesView bytes);                // lower case
Result<Bytes> hex_decode(std::string_view text);        // either case; INVALID_ARGUMENT
std::string base64_encode(BytesView bytes);             // standard alphabet, padded
Result<Bytes> base64_decode(std::string_view text);     // standard, padding required, canonical; INVALID_ARGUMENT
std::string base64url_encode(BytesView bytes);          // no padding
Result<Bytes> base64url_decode(std::string_view text);  // no padding, canonical; INVALID_ARGUMENT
bool is_utf8(std::string_view text);                    // strict: no surrogates, no overlong forms

// One PEM block: "-----BEGIN <label>-----", base64 in 64 columns, the end line, each line ended by '\n'.
std::string pem_encode(std::string_view label, BytesView der);
struct PemBlock {
  std::string label;
  Bytes der;
};
// Every block of a file; text between blocks is ignored. INVALID_ARGUMENT on a damaged block. Empty input: no blocks.
Result<std::vector<PemBlock>> pem_decode(std::string_view text);

}  // namespace limpet
