// SPDX-License-Identifier: Apache-2.0
#pragma once
// Message<T> owns a nanopb struct T and everything its pointers hold; released (and, for messages that carry keys,
// zeroed) in the destructor. decode() scans the bytes first: depth, items, total memory, UTF-8 of every string, no NUL
// inside one. Generated structs: strings are `char*`, bytes `pb_bytes_array_t*`, repeated fields pointer plus `_count`,
// sub-messages in place with `has_x`, scalars in place. Bytes that may exceed 65,535 (attestation payloads, challenges,
// bundles; named in core/proto/*.options) are `limpet_large_bytes*`, with the same set_bytes() and view(). All pointers
// come from malloc. Any thread, one at a time.

#include <pb.h>
#include <pb_decode.h>
#include <pb_encode.h>

#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/limits.h"
#include "proto/large_bytes.h"

namespace limpet::wire {

// The generated code is made with nanopb's --cpp-descriptors, which ties each struct to its descriptor.
template <class T>
const pb_msgdesc_t* descriptor() {
  return nanopb::MessageDescriptor<T>::fields();
}

struct ScanLimits {
  int depth = limits::kMessageDepth;
  size_t items = limits::kMessageItems;    // repeated elements and sub-messages in all
  size_t memory = limits::kMessageMemory;  // bytes once decoded
};

// Walks the wire bytes by the descriptor, without recursion. INVALID_ARGUMENT (malformed; a sub-message or a large
// field that occurs twice counts as that) or RESOURCE_EXHAUSTED (a bound, named).
Result<void> scan_message(const pb_msgdesc_t* type, BytesView bytes, const ScanLimits& bounds);

// `message` is zeroed memory of the type; after an error it owns nothing.
Result<void> decode_into(const pb_msgdesc_t* type, void* message, BytesView bytes, const ScanLimits& bounds);
Result<Bytes> encode_from(const pb_msgdesc_t* type, const void* message);
void release(const pb_msgdesc_t* type, void* message, bool wipe_secrets);

// An empty message that is filled by somebody who does not know its type.
struct MessagePlace {
  const pb_msgdesc_t* type;
  void* message;
  Result<void> decode(BytesView bytes) { return decode_into(type, message, bytes, {}); }
};

template <class T>
class Message {
 public:
  Message() { std::memset(&value_, 0, sizeof value_); }
  Message(Message&& other) noexcept : secret_(other.secret_) {
    std::memcpy(&value_, &other.value_, sizeof value_);
    std::memset(&other.value_, 0, sizeof value_);
  }
  Message& operator=(Message&& other) noexcept {
    if (this != &other) {
      release(descriptor<T>(), &value_, secret_);
      secret_ = other.secret_;
      std::memcpy(&value_, &other.value_, sizeof value_);
      std::memset(&other.value_, 0, sizeof value_);
    }
    return *this;
  }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
  ~Message() { release(descriptor<T>(), &value_, secret_); }

  static Result<Message> decode(BytesView bytes, const ScanLimits& bounds = {}) {
    Message message;
    TRY(decode_into(descriptor<T>(), &message.value_, bytes, bounds));
    return message;
  }
  // Of a message that is empty; it stays so after an error.
  MessagePlace place() { return {descriptor<T>(), &value_}; }
  [[nodiscard]] Result<Bytes> encode() const { return encode_from(descriptor<T>(), &value_); }

  T* operator->() { return &value_; }
  const T* operator->() const { return &value_; }
  T& operator*() { return value_; }
  const T& operator*() const { return value_; }
  // Zero strings and bytes on release: the message carries keys.
  void mark_secret() { secret_ = true; }

 private:
  T value_;
  bool secret_ = false;
};

// ---- filling and reading pointer fields ----
// Setting replaces what was there; an empty text or no bytes leave null, which is how proto3 leaves a field out.
void set_string(char*& field, std::string_view text);
void set_bytes(pb_bytes_array_t*& field, BytesView bytes);  // at most 65,535: longer is a mistake of ours and aborts
void set_bytes(limpet_large_bytes*& field, BytesView bytes);
// For a member of a oneof, whose presence says something even when it is empty: never null afterwards.
void set_present(limpet_large_bytes*& field, BytesView bytes);
inline std::string_view view(const char* field) {
  return field == nullptr ? std::string_view() : std::string_view(field);
}
inline BytesView view(const pb_bytes_array_t* field) {
  return field == nullptr ? BytesView() : BytesView(field->bytes, field->size);
}
inline BytesView view(const limpet_large_bytes* field) {
  return field == nullptr ? BytesView() : BytesView(field->bytes, field->size);
}
// A zeroed array of `count` elements for an empty repeated field; returns its start (null for 0). A field holds at most
// 65,535 elements: callers page; what is beyond that is not sent.
template <class T>
T* set_array(T*& field, pb_size_t& field_count, size_t count) {
  field = count == 0 ? nullptr : static_cast<T*>(std::calloc(count, sizeof(T)));
  field_count = field == nullptr ? pb_size_t{0} : count > PB_SIZE_MAX ? PB_SIZE_MAX : static_cast<pb_size_t>(count);
  return field;
}
template <class T>
std::span<const T> items(const T* field, pb_size_t count) {
  return {field, count};
}

}  // namespace limpet::wire
