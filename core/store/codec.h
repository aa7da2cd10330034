// SPDX-License-Identifier: Apache-2.0
#pragma once
// The protobuf wire format by hand, for the messages of proto/store.proto: rows are written tens of thousands a second
// and may hold more than nanopb's 16-bit sizes allow. Default values are left out, unknown fields are skipped, so that
// fields can be added. Values, any thread.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace limpet {

class ProtoWriter {
 public:
  ProtoWriter() { out_.reserve(256); }
  void number(uint32_t field, int64_t value) {
    if (value == 0) return;
    varint(uint64_t{field} << 3);
    varint(static_cast<uint64_t>(value));
  }
  void flag(uint32_t field, bool value) { number(field, value ? 1 : 0); }
  void text(uint32_t field, std::string_view value) {
    if (!value.empty()) item(field, as_bytes(value));
  }
  void bytes(uint32_t field, BytesView value) {
    if (!value.empty()) item(field, value);
  }
  // One element of a repeated field, or a sub-message: written even when empty.
  void item(uint32_t field, BytesView value) {
    varint(uint64_t{field} << 3 | 2);
    varint(value.size());
    append(out_, value);
  }
  [[nodiscard]] BytesView view() const { return out_; }
  [[nodiscard]] Bytes take() { return std::move(out_); }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_.push_back(static_cast<uint8_t>(value | 0x80));
    out_.push_back(static_cast<uint8_t>(value));
  }
  Bytes out_;
};

// for (ProtoReader in(bytes); in.next();) switch (in.field()) ...   then check in.ok().
class ProtoReader {
 public:
  explicit ProtoReader(BytesView bytes) : rest_(bytes) {}
  // Moves to the next field; false at the end or at the first malformed byte.
  bool next();
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] uint32_t field() const { return field_; }
  // The value of a field of the other kind reads as zero or empty.
  [[nodiscard]] int64_t number() const { return static_cast<int64_t>(number_); }
  [[nodiscard]] bool flag() const { return number_ != 0; }
  [[nodiscard]] BytesView bytes() const { return bytes_; }
  [[nodiscard]] std::string text() const { return std::string(as_text(bytes_)); }

 private:
  bool varint(uint64_t& value);
  bool fail() {
    ok_ = false;
    return false;
  }
  BytesView rest_;
  BytesView bytes_;
  uint64_t number_ = 0;
  uint32_t field_ = 0;
  bool ok_ = true;
};

// "<what>: malformed row"; DATA_LOSS.
std::unexpected<Error> malformed_row(std::string_view what);

// Numbers as keys and counters: big-endian, so that they sort.
Bytes encode_u64(uint64_t value);
// 0 when not 8 bytes.
uint64_t decode_u64(BytesView bytes);

// A text as a key. LMDB keys end at 511 bytes and SPIFFE IDs at 2048: a long text becomes a zero byte and its SHA-256.
Bytes text_key(std::string_view text);

}  // namespace limpet
