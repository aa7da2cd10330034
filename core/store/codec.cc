// SPDX-License-Identifier: Apache-2.0
#include "store/codec.h"

#include "crypto/key.h"

namespace limpet {

namespace {
constexpr size_t kLongestTextKey = 480;  // LMDB's limit is 511
}

bool ProtoReader::varint(uint64_t& value) {
  value = 0;
  for (size_t i = 0; i < 10; ++i) {
    if (i >= rest_.size()) return false;
    value |= static_cast<uint64_t>(rest_[i] & 0x7f) << (7 * i);
    if ((rest_[i] & 0x80) == 0) {
      rest_ = rest_.subspan(i + 1);
      return true;
    }
  }
  return false;
}

bool ProtoReader::next() {
  if (!ok_ || rest_.empty()) return false;
  number_ = 0;
  bytes_ = {};
  uint64_t key = 0;
  if (!varint(key) || key >> 3 == 0 || key >> 3 > UINT32_MAX >> 3) return fail();
  field_ = static_cast<uint32_t>(key >> 3);
  size_t size = 0;
  switch (key & 7) {
    case 0:
      return varint(number_) || fail();
    case 1:
      size = 8;
      break;
    case 2: {
      uint64_t length = 0;
      if (!varint(length) || length > rest_.size()) return fail();
      size = static_cast<size_t>(length);
      break;
    }
    case 5:
      size = 4;
      break;
    default:
      return fail();
  }
  if (size > rest_.size()) return fail();
  bytes_ = rest_.first(size);
  rest_ = rest_.subspan(size);
  return true;
}

std::unexpected<Error> malformed_row(std::string_view what) {
  return fail(Code::data_loss, std::string(what) + ": malformed row");
}

Bytes encode_u64(uint64_t value) {
  Bytes out(8);
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<uint8_t>(value >> (56 - 8 * i));
  return out;
}

uint64_t decode_u64(BytesView bytes) {
  if (bytes.size() != 8) return 0;
  uint64_t value = 0;
  for (uint8_t byte : bytes) value = value << 8 | byte;
  return value;
}

Bytes text_key(std::string_view text) {
  if (!text.empty() && text.size() <= kLongestTextKey && text.front() != '\0') return to_bytes(text);
  Bytes key{0};
  append(key, sha256(as_bytes(text)));
  return key;
}

}  // namespace limpet
