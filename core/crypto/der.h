// SPDX-License-Identifier: Apache-2.0
#pragma once
// DER, both ways, as far as X.509, PKCS#8 and PKCS#10 need it. Writing goes forwards: every function returns a finished
// element and a parent is made from its children. Reading is strict: definite lengths in their shortest form, single
// byte tags; an element's view is borrowed from the input. Pure functions, any thread.

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace limpet::der {

inline constexpr uint8_t kBoolean = 0x01;
inline constexpr uint8_t kInteger = 0x02;
inline constexpr uint8_t kBitString = 0x03;
inline constexpr uint8_t kOctetString = 0x04;
inline constexpr uint8_t kNull = 0x05;
inline constexpr uint8_t kOid = 0x06;
inline constexpr uint8_t kUtf8String = 0x0c;
inline constexpr uint8_t kPrintableString = 0x13;
inline constexpr uint8_t kUtcTime = 0x17;
inline constexpr uint8_t kGeneralizedTime = 0x18;
inline constexpr uint8_t kSequence = 0x30;
inline constexpr uint8_t kSet = 0x31;
inline constexpr uint8_t kContext0 = 0xa0;  // [0] constructed

// ---- writing ----
size_t header_size(size_t content_size);
void append_header(Bytes& out, uint8_t tag, size_t content_size);
Bytes element(uint8_t tag, std::initializer_list<BytesView> children);
inline Bytes element(uint8_t tag, BytesView content) { return element(tag, {content}); }
inline Bytes sequence(std::initializer_list<BytesView> children) { return element(kSequence, children); }
Bytes unsigned_integer(BytesView big_endian);  // a leading zero is added where needed, superfluous ones dropped
Bytes bit_string(BytesView bytes);             // no unused bits
Bytes named_bits(uint16_t bits);     // bit 0 of `bits` is the first; trailing zero bits are cut (X.690 11.2.2)
Bytes oid(std::string_view dotted);  // trusted input: our own constants
Bytes time(int64_t unix_seconds);    // UTCTime up to 2049, GeneralizedTime after (RFC 5280 4.1.2.5)

// ---- reading ----
struct Element {
  uint8_t tag = 0;
  BytesView content;
  BytesView whole;  // with its header
};

class Reader {
 public:
  explicit Reader(BytesView input) : rest_(input) {}
  [[nodiscard]] bool empty() const { return rest_.empty(); }
  [[nodiscard]] bool next_is(uint8_t tag) const { return !rest_.empty() && rest_[0] == tag; }
  Result<Element> next();                  // INVALID_ARGUMENT "malformed DER"
  Result<Element> expect(uint8_t tag);     // the same when another tag stands there
  [[nodiscard]] Result<void> end() const;  // "trailing data"

 private:
  BytesView rest_;
};

// The only element of `input`.
Result<Element> single(BytesView input, uint8_t tag);
Result<bool> read_boolean(BytesView content);
Result<uint64_t> read_small(BytesView content);        // a non-negative INTEGER below 2^63
Result<Bytes> read_unsigned(BytesView content);        // big-endian without leading zeros; 0 is empty; negative refused
Result<BytesView> read_octet_bits(BytesView content);  // a BIT STRING without unused bits
Result<uint16_t> read_named_bits(BytesView content);   // the first 16 named bits
Result<int64_t> read_time(const Element& element);
Result<std::string> read_oid(BytesView content);  // dotted

}  // namespace limpet::der
