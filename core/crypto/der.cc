// SPDX-License-Identifier: Apache-2.0
#include "crypto/der.h"

#include <cstdio>
#include <cstdlib>

namespace limpet::der {

namespace {

std::unexpected<Error> malformed(const char* what = "malformed DER") { return fail(Code::invalid_argument, what); }

// Days since 1970-01-01 of a date of the proleptic Gregorian calendar; years are counted from March.
int64_t days_of(int64_t year, int64_t month, int64_t day) {
  if (month <= 2) --year;
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const int64_t year_of_era = year - era * 400;
  const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

struct Date {
  int64_t year;
  int64_t month;
  int64_t day;
};

Date date_of(int64_t days) {
  days += 719468;
  const int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const int64_t day_of_era = days - era * 146097;
  const int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t m = (5 * day_of_year + 2) / 153;
  const int64_t month = m < 10 ? m + 3 : m - 9;
  return {year_of_era + era * 400 + (month <= 2 ? 1 : 0), month, day_of_year - (153 * m + 2) / 5 + 1};
}

int64_t days_in_month(int64_t year, int64_t month) {
  return month == 12 ? 31 : days_of(year, month + 1, 1) - days_of(year, month, 1);
}

}  // namespace

size_t header_size(size_t content_size) {
  if (content_size < 0x80) return 2;
  if (content_size < 0x100) return 3;
  if (content_size < 0x10000) return 4;
  return 5;
}

void append_header(Bytes& out, uint8_t tag, size_t content_size) {
  out.push_back(tag);
  const size_t extra = header_size(content_size) - 2;
  if (extra == 0) return out.push_back(static_cast<uint8_t>(content_size));
  out.push_back(static_cast<uint8_t>(0x80 | extra));
  for (size_t i = extra; i-- > 0;) out.push_back(static_cast<uint8_t>(content_size >> (8 * i)));
}

Bytes element(uint8_t tag, std::initializer_list<BytesView> children) {
  size_t size = 0;
  for (BytesView child : children) size += child.size();
  Bytes out;
  out.reserve(header_size(size) + size);
  append_header(out, tag, size);
  for (BytesView child : children) append(out, child);
  return out;
}

Bytes unsigned_integer(BytesView big_endian) {
  while (!big_endian.empty() && big_endian[0] == 0) big_endian = big_endian.subspan(1);
  const uint8_t zero = 0;
  const bool pad = big_endian.empty() || (big_endian[0] & 0x80) != 0;
  return element(kInteger, {BytesView(&zero, pad ? 1u : 0u), big_endian});
}

Bytes bit_string(BytesView bytes) {
  const uint8_t unused = 0;
  return element(kBitString, {BytesView(&unused, 1), bytes});
}

Bytes named_bits(uint16_t bits) {
  int highest = -1;
  for (int i = 0; i < 16; ++i)
    if ((bits >> i & 1) != 0) highest = i;
  Bytes content(highest < 0 ? 1 : highest < 8 ? 2 : 3);
  for (int i = 0; i <= highest; ++i)
    if ((bits >> i & 1) != 0) {
      uint8_t& byte = content[1 + static_cast<size_t>(i) / 8];
      byte = static_cast<uint8_t>(byte | 0x80 >> i % 8);
    }
  if (highest >= 0) content[0] = static_cast<uint8_t>(7 - highest % 8);
  return element(kBitString, content);
}

Bytes oid(std::string_view dotted) {
  const std::string text(dotted);
  Bytes content;
  const char* at = text.c_str();
  uint64_t first = 0;
  for (int index = 0; *at != '\0'; ++index) {
    char* end = nullptr;
    uint64_t arc = std::strtoull(at, &end, 10);
    at = *end == '.' ? end + 1 : end;
    if (index == 0) {
      first = arc;
      continue;
    }
    if (index == 1) arc += first * 40;
    int shift = 0;
    while (shift < 63 && arc >> (shift + 7) != 0) shift += 7;
    for (; shift > 0; shift -= 7) content.push_back(static_cast<uint8_t>(0x80 | (arc >> shift & 0x7f)));
    content.push_back(static_cast<uint8_t>(arc & 0x7f));
  }
  return element(kOid, content);
}

Bytes time(int64_t unix_seconds) {
  // Years 0 to 9999 are all that the format can say.
  constexpr int64_t kFirst = -62167219200;
  constexpr int64_t kLast = 253402300799;
  unix_seconds = unix_seconds < kFirst ? kFirst : unix_seconds > kLast ? kLast : unix_seconds;
  int64_t days = unix_seconds / 86400;
  int64_t seconds = unix_seconds % 86400;
  if (seconds < 0) {
    seconds += 86400;
    --days;
  }
  const Date date = date_of(days);
  const bool utc = date.year >= 1950 && date.year < 2050;
  char text[40];
  std::snprintf(text, sizeof text, "%04d%02d%02d%02d%02d%02dZ", static_cast<int>(date.year),
                static_cast<int>(date.month), static_cast<int>(date.day), static_cast<int>(seconds / 3600),
                static_cast<int>(seconds / 60 % 60), static_cast<int>(seconds % 60));
  return element(utc ? kUtcTime : kGeneralizedTime, as_bytes(utc ? text + 2 : text));
}

Result<Element> Reader::next() {
  if (rest_.size() < 2) return malformed();
  Element out;
  out.tag = rest_[0];
  if ((out.tag & 0x1f) == 0x1f) return malformed();  // tags above 30 do not occur in what we read
  size_t size = rest_[1];
  size_t header = 2;
  if (size >= 0x80) {
    const size_t count = size & 0x7f;
    if (count == 0 || count > 3 || rest_.size() < 2 + count) return malformed();
    size = 0;
    for (size_t i = 0; i < count; ++i) size = size << 8 | rest_[2 + i];
    header = 2 + count;
    if (header_size(size) != header) return malformed();  // not the shortest form
  }
  if (rest_.size() - header < size) return malformed();
  out.content = rest_.subspan(header, size);
  out.whole = rest_.first(header + size);
  rest_ = rest_.subspan(header + size);
  return out;
}

Result<Element> Reader::expect(uint8_t tag) {
  if (!next_is(tag)) return malformed();
  return next();
}

Result<void> Reader::end() const {
  if (!rest_.empty()) return malformed("trailing data");
  return {};
}

Result<Element> single(BytesView input, uint8_t tag) {
  Reader reader(input);
  TRY_ASSIGN(Element out, reader.expect(tag));
  TRY(reader.end());
  return out;
}

Result<bool> read_boolean(BytesView content) {
  if (content.size() != 1 || (content[0] != 0 && content[0] != 0xff)) return malformed();
  return content[0] != 0;
}

Result<Bytes> read_unsigned(BytesView content) {
  if (content.empty() || (content[0] & 0x80) != 0) return malformed("negative or empty INTEGER");
  if (content.size() > 1 && content[0] == 0 && (content[1] & 0x80) == 0) return malformed();
  return to_bytes(content[0] == 0 ? content.subspan(1) : content);
}

Result<uint64_t> read_small(BytesView content) {
  TRY_ASSIGN(Bytes bytes, read_unsigned(content));
  if (bytes.size() > 8 || (bytes.size() == 8 && (bytes[0] & 0x80) != 0)) return malformed("INTEGER too large");
  uint64_t out = 0;
  for (uint8_t byte : bytes) out = out << 8 | byte;
  return out;
}

Result<BytesView> read_octet_bits(BytesView content) {
  if (content.empty() || content[0] != 0) return malformed();
  return content.subspan(1);
}

Result<uint16_t> read_named_bits(BytesView content) {
  if (content.empty() || content[0] > 7 || (content.size() == 1 && content[0] != 0)) return malformed();
  if (content.size() > 1 && (content.back() & ((1u << content[0]) - 1)) != 0) return malformed();
  unsigned out = 0;
  for (size_t i = 0; i < 16 && i / 8 + 1 < content.size(); ++i)
    if ((content[1 + i / 8] & 0x80u >> i % 8) != 0) out |= 1u << i;
  return static_cast<uint16_t>(out);
}

Result<int64_t> read_time(const Element& element) {
  const bool utc = element.tag == kUtcTime;
  if (!utc && element.tag != kGeneralizedTime) return malformed("malformed time");
  const size_t year_digits = utc ? 2 : 4;
  const BytesView text = element.content;
  if (text.size() != year_digits + 11 || text.back() != 'Z') return malformed("malformed time");
  for (size_t i = 0; i + 1 < text.size(); ++i)
    if (text[i] < '0' || text[i] > '9') return malformed("malformed time");
  const auto number = [text](size_t at, size_t digits) {
    int64_t out = 0;
    for (size_t i = 0; i < digits; ++i) out = out * 10 + (text[at + i] - '0');
    return out;
  };
  int64_t year = number(0, year_digits);
  if (utc) year += year < 50 ? 2000 : 1900;
  const int64_t month = number(year_digits, 2);
  const int64_t day = number(year_digits + 2, 2);
  const int64_t hour = number(year_digits + 4, 2);
  const int64_t minute = number(year_digits + 6, 2);
  const int64_t second = number(year_digits + 8, 2);
  if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 || second > 59)
    return malformed("malformed time");
  return days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
}

Result<std::string> read_oid(BytesView content) {
  if (content.empty() || (content.back() & 0x80) != 0 || content.size() > 64) return malformed("malformed OID");
  std::string out;
  uint64_t arc = 0;
  bool start = true;
  for (uint8_t byte : content) {
    if (start && byte == 0x80) return malformed("malformed OID");  // not the shortest form
    if (arc >> 56 != 0) return malformed("malformed OID");
    arc = arc << 7 | (byte & 0x7f);
    start = (byte & 0x80) == 0;
    if (!start) continue;
    if (out.empty()) {
      const uint64_t first = arc < 40 ? 0 : arc < 80 ? 1 : 2;
      out = std::to_string(first) + "." + std::to_string(arc - first * 40);
    } else {
      out += "." + std::to_string(arc);
    }
    arc = 0;
  }
  return out;
}

}  // namespace limpet::der
