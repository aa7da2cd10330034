// SPDX-License-Identifier: Apache-2.0
#pragma once
// gRPC's length-prefixed messages (PROTOCOL-HTTP2.md "Length-Prefixed-Message"): one flag byte, four length bytes, the
// message. FrameReader takes DATA payload in and gives messages out; Outbox queues messages for sending (or, for plain
// HTTP, bytes as they are). Owned by one call; loop thread only.

#include <deque>
#include <optional>

#include "base/bytes.h"
#include "base/limits.h"

namespace limpet::wire {

inline constexpr size_t kFramePrefix = 5;

class FrameReader {
 public:
  void feed(BytesView bytes) { append(buffer_, bytes); }
  // The next whole message; nullopt: more bytes are needed. RESOURCE_EXHAUSTED: too large. INTERNAL: a flag that means
  // compression, which was never negotiated, or one that does not exist.
  Result<std::optional<Bytes>> next();
  [[nodiscard]] size_t buffered() const { return buffer_.size() - start_; }

 private:
  Bytes take(size_t length);
  Bytes buffer_;
  size_t start_ = 0;  // bytes of buffer_ already given out
};

class Outbox {
 public:
  Outbox() = default;
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;
  ~Outbox();

  // `secret`: the bytes are zeroed once taken or dropped.
  void push(Bytes message, bool secret);
  void push_plain(Bytes bytes);  // no prefix: an HTTP body
  // Wire bytes not yet taken, prefixes included.
  [[nodiscard]] size_t bytes() const { return bytes_; }
  // Appends the next `count` (<= bytes()) wire bytes to `out`.
  void take(size_t count, Bytes& out);

 private:
  struct Item {
    Bytes message;
    bool secret = false;
    size_t prefix = kFramePrefix;  // 0: plain
  };
  void drop_front();
  std::deque<Item> items_;
  size_t position_ = 0;  // within the first item, prefix included
  size_t bytes_ = 0;
  size_t secrets_ = 0;  // items that are secret
};

}  // namespace limpet::wire
