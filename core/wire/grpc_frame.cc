// SPDX-License-Identifier: Apache-2.0
#include "wire/grpc_frame.h"

#include <algorithm>

#include "base/secret.h"

namespace limpet::wire {
namespace {

// More than this stays out of the buffer's first growth step: an announced length is only a promise.
constexpr size_t kTrustedLength = 64u << 10;

uint32_t read_length(const uint8_t* prefix) {
  return uint32_t{prefix[1]} << 24 | uint32_t{prefix[2]} << 16 | uint32_t{prefix[3]} << 8 | prefix[4];
}

// Room for `more` bytes without leaving a copy of what is there in freed memory.
void grow_wiping(Bytes& out, size_t more) {
  if (out.capacity() - out.size() >= more) return;
  Bytes larger;
  larger.reserve(std::max(out.capacity() * 2, out.size() + more));
  append(larger, out);
  std::swap(out, larger);
  wipe(larger);
}

}  // namespace

Result<std::optional<Bytes>> FrameReader::next() {
  if (buffered() < kFramePrefix) return std::nullopt;
  const uint8_t* prefix = buffer_.data() + start_;
  if (prefix[0] == 1) return fail(Code::internal, "grpc: compressed flag set with identity or empty encoding");
  if (prefix[0] != 0) {
    return fail(Code::internal, "grpc: received unexpected payload format " + std::to_string(prefix[0]));
  }
  const size_t length = read_length(prefix);
  if (length > limits::kMessageBytes) {
    return fail(Code::resource_exhausted, "grpc: received message larger than max (" + std::to_string(length) +
                                              " vs. " + std::to_string(limits::kMessageBytes) + ")");
  }
  if (buffered() < kFramePrefix + length) {
    buffer_.reserve(start_ + kFramePrefix + std::min(length, kTrustedLength));
    return std::nullopt;
  }
  return take(length);
}

Bytes FrameReader::take(size_t length) {
  const auto begin = buffer_.begin() + static_cast<ptrdiff_t>(start_ + kFramePrefix);
  if (buffer_.size() ==
      start_ + kFramePrefix + length) {  // the usual case: nothing follows, so the buffer is the message
    buffer_.erase(buffer_.begin(), begin);
    start_ = 0;
    return std::exchange(buffer_, Bytes());
  }
  Bytes message(begin, begin + static_cast<ptrdiff_t>(length));
  start_ += kFramePrefix + length;
  if (start_ > buffer_.size() / 2) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(start_));
    start_ = 0;
  }
  return message;
}

Outbox::~Outbox() {
  while (!items_.empty()) drop_front();
}

void Outbox::push(Bytes message, bool secret) {
  bytes_ += kFramePrefix + message.size();
  secrets_ += secret ? 1 : 0;
  items_.push_back({std::move(message), secret});
}

void Outbox::push_plain(Bytes bytes) {
  if (bytes.empty()) return;  // nothing would ever take it
  bytes_ += bytes.size();
  items_.push_back({std::move(bytes), false, 0});
}

void Outbox::drop_front() {
  if (items_.front().secret) {
    wipe(items_.front().message);
    --secrets_;
  }
  items_.pop_front();
  position_ = 0;
  if (items_.empty()) items_.shrink_to_fit();
}

void Outbox::take(size_t count, Bytes& out) {
  bytes_ -= count;
  if (secrets_ > 0) grow_wiping(out, count);
  while (count > 0) {
    const Bytes& message = items_.front().message;
    const size_t head = items_.front().prefix;
    const auto size = static_cast<uint32_t>(message.size());
    const uint8_t prefix[kFramePrefix] = {0, static_cast<uint8_t>(size >> 24), static_cast<uint8_t>(size >> 16),
                                          static_cast<uint8_t>(size >> 8), static_cast<uint8_t>(size)};
    const BytesView part =
        position_ < head ? BytesView(prefix).subspan(position_) : BytesView(message).subspan(position_ - head);
    const size_t now = std::min(count, part.size());
    append(out, part.first(now));
    position_ += now;
    count -= now;
    if (position_ == head + message.size()) drop_front();
  }
}

}  // namespace limpet::wire
