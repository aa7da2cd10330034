// SPDX-License-Identifier: Apache-2.0
#include "plugin/shim_wire.h"

namespace limpet::shim {
namespace {

constexpr size_t kLengthField = 4;
constexpr size_t kKeepCapacity = 64u << 10;  // a buffer that one large frame blew up is given back

void put(Bytes& out, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

uint64_t get(BytesView from, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value |= static_cast<uint64_t>(from[i]) << (8 * i);
  return value;
}

}  // namespace

FrameWriter::FrameWriter(Method method, uint32_t number) {
  out_.reserve(256);
  put(out_, 0, kLengthField);
  put(out_, number, 4);
  put(out_, static_cast<uint16_t>(method), 2);
}

void FrameWriter::u32(uint32_t value) { put(out_, value, 4); }
void FrameWriter::u64(uint64_t value) { put(out_, value, 8); }

void FrameWriter::bytes(const void* data, size_t size) {
  if (data == nullptr && size > 0) return spoil();
  if (size > kFrameBytes || out_.size() + size > kFrameBytes) {
    too_large_ = true;
    size = 0;
  }
  put(out_, size, 4);
  if (size > 0) append(out_, {static_cast<const uint8_t*>(data), size});
}

Bytes FrameWriter::finish() && {
  const size_t rest = out_.size() - kLengthField;
  for (size_t i = 0; i < kLengthField; ++i) out_[i] = static_cast<uint8_t>(rest >> (8 * i));
  return std::move(out_);
}

uint32_t FieldReader::u32() {
  if (!good_ || rest_.size() < 4) {
    good_ = false;
    return 0;
  }
  const auto value = static_cast<uint32_t>(get(rest_, 4));
  rest_ = rest_.subspan(4);
  return value;
}

uint64_t FieldReader::u64() {
  if (!good_ || rest_.size() < 8) {
    good_ = false;
    return 0;
  }
  const uint64_t value = get(rest_, 8);
  rest_ = rest_.subspan(8);
  return value;
}

BytesView FieldReader::bytes() {
  const size_t size = u32();
  if (!good_ || size > rest_.size()) {
    good_ = false;
    return {};
  }
  const BytesView value = rest_.first(size);
  rest_ = rest_.subspan(size);
  return value;
}

size_t FieldReader::count(size_t item_bytes, size_t most) {
  const size_t items = u32();
  if (good_ && items <= most && items <= rest_.size() / item_bytes) return items;
  good_ = false;
  return 0;
}

void FrameSplitter::add(BytesView data) {
  if (at_ == buffer_.size()) {
    at_ = 0;
    buffer_.clear();
    if (buffer_.capacity() > kKeepCapacity) buffer_ = Bytes();
  } else if (at_ > kKeepCapacity) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(at_));
    at_ = 0;
  }
  append(buffer_, data);
}

std::optional<Frame> FrameSplitter::next() {
  const BytesView rest = BytesView(buffer_).subspan(at_);
  if (broken_ || rest.size() < kLengthField) return std::nullopt;
  const size_t length = get(rest, kLengthField);
  broken_ = length < kFrameHead - kLengthField || length > kFrameBytes;
  if (broken_ || rest.size() - kLengthField < length) return std::nullopt;
  at_ += kLengthField + length;
  return Frame{static_cast<Method>(get(rest.subspan(8), 2)), static_cast<uint32_t>(get(rest.subspan(4), 4)),
               rest.subspan(kFrameHead, length - (kFrameHead - kLengthField))};
}

}  // namespace limpet::shim
