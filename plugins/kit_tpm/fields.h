// SPDX-License-Identifier: Apache-2.0
#pragma once
// Big-endian fields read one after the other, for formats whose only answer to what does not fit is "malformed": once
// something does not, everything after it is empty and finished() is false. Where the reason counts, Reader of
// structures.h names it. A view of borrowed bytes.

#include "base/bytes.h"

namespace limpet::tpm_wire {

class Fields {
 public:
  explicit Fields(BytesView input) : rest_(input) {}
  uint32_t number(size_t bytes) {
    uint32_t out = 0;
    for (const uint8_t byte : take(bytes)) out = out << 8 | byte;
    return out;
  }
  uint16_t u16() { return static_cast<uint16_t>(number(2)); }
  BytesView sized(size_t length_bytes = 2) { return take(number(length_bytes)); }
  BytesView take(size_t bytes) {
    if (bytes > rest_.size()) {
      good_ = false;
      rest_ = {};
      return {};
    }
    const BytesView out = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return out;
  }
  [[nodiscard]] bool finished() const { return good_ && rest_.empty(); }

 private:
  BytesView rest_;
  bool good_ = true;
};

}  // namespace limpet::tpm_wire
