// SPDX-License-Identifier: Apache-2.0
// Encoding by nanopb's descriptors in two passes over the message: the first measures every sub-message once and keeps
// the sizes in the order they are met, the second writes. nanopb's own encoder measures each sub-message again at every
// level above it, which on lists of entries, the server's most frequent answer, takes several times as long.
#include <pb_common.h>

#include <bit>
#include <string>
#include <vector>

#include "wire/message.h"

extern "C" bool limpet_large_bytes_field(pb_istream_t* in, pb_ostream_t* out, const pb_field_t* field);

namespace limpet::wire {
namespace {

size_t varint_size(uint64_t value) {
  size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

uint64_t read_unsigned(const void* data, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, data, size);
  if constexpr (std::endian::native == std::endian::big) value >>= 8 * (sizeof value - size);
  return value;
}

int64_t read_signed(const void* data, size_t size) {
  const unsigned unused = static_cast<unsigned>(8 * (sizeof(int64_t) - size));
  return static_cast<int64_t>(read_unsigned(data, size) << unused) >> unused;
}

// What stands on the wire for an integer of the field's type; fixed-width ones are their own bits.
uint64_t wire_integer(const pb_field_iter_t& field, const void* data) {
  switch (PB_LTYPE(field.type)) {
    case PB_LTYPE_BOOL:
      return *static_cast<const uint8_t*>(data) != 0 ? 1 : 0;
    case PB_LTYPE_VARINT:
      return static_cast<uint64_t>(read_signed(data, field.data_size));
    case PB_LTYPE_SVARINT: {
      const int64_t value = read_signed(data, field.data_size);
      return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
    }
    default:
      return read_unsigned(data, field.data_size);
  }
}

uint32_t wire_type(pb_type_t type) {
  switch (PB_LTYPE(type)) {
    case PB_LTYPE_FIXED32:
      return PB_WT_32BIT;
    case PB_LTYPE_FIXED64:
      return PB_WT_64BIT;
    default:
      return PB_LTYPE(type) <= PB_LTYPE_LAST_PACKABLE ? PB_WT_VARINT : PB_WT_STRING;
  }
}

bool is_scalar(const pb_field_iter_t& field) { return PB_LTYPE(field.type) <= PB_LTYPE_LAST_PACKABLE; }

// Counts bytes.
class Counter {
 public:
  void varint(uint64_t value) { size_ += varint_size(value); }
  void fixed(const void*, size_t size) { size_ += size; }
  void bytes(BytesView view) { size_ += view.size(); }
  // The body's size becomes known only afterwards: its place in the list of sizes is taken before.
  template <class Body>
  void nested(const Body& body) {
    const size_t index = sizes_.size();
    sizes_.push_back(0);
    const size_t before = size_;
    body();
    sizes_[index] = size_ - before;
    varint(sizes_[index]);
  }
  [[nodiscard]] size_t size() const { return size_; }
  std::vector<size_t> take_sizes() { return std::move(sizes_); }

 private:
  size_t size_ = 0;
  std::vector<size_t> sizes_;
};

// Writes what a Counter counted, taking the sizes in the same order.
class Writer {
 public:
  Writer(uint8_t* at, std::vector<size_t> sizes) : at_(at), sizes_(std::move(sizes)) {}
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) *at_++ = static_cast<uint8_t>(value | 0x80);
    *at_++ = static_cast<uint8_t>(value);
  }
  void fixed(const void* data, size_t size) {
    uint64_t value = read_unsigned(data, size);
    for (size_t i = 0; i < size; ++i, value >>= 8) *at_++ = static_cast<uint8_t>(value);
  }
  void bytes(BytesView view) {
    if (!view.empty()) std::memcpy(at_, view.data(), view.size());
    at_ += view.size();
  }
  template <class Body>
  void nested(const Body& body) {
    varint(sizes_[next_++]);
    body();
  }

 private:
  uint8_t* at_;
  std::vector<size_t> sizes_;
  size_t next_ = 0;
};

// One pass over a message into a Counter or a Writer.
template <class Sink>
class Pass {
 public:
  explicit Pass(Sink& sink) : sink_(sink) {}

  void message(const pb_msgdesc_t* type, const void* message) {
    pb_field_iter_t field;
    if (!pb_field_iter_begin_const(&field, type, message)) return;
    do {
      if (PB_ATYPE(field.type) == PB_ATYPE_CALLBACK) {
        large(field);
      } else if (PB_HTYPE(field.type) == PB_HTYPE_REPEATED) {
        repeated(field);
      } else if (present(field)) {
        element(field, field.pData);
      }
    } while (pb_field_iter_next(&field));
  }
  // The number of a field that this encoder cannot write, or 0: our generated code has only kinds that it can.
  [[nodiscard]] pb_size_t unknown() const { return unknown_; }

 private:
  void key(const pb_field_iter_t& field, uint32_t type) { sink_.varint(uint64_t{field.tag} << 3 | type); }

  static bool present(const pb_field_iter_t& field) {
    if (field.pData == nullptr) return false;  // a pointer that is not set
    switch (PB_HTYPE(field.type)) {
      case PB_HTYPE_ONEOF: {
        pb_size_t which = 0;
        std::memcpy(&which, field.pSize, sizeof which);
        return which == field.tag;
      }
      case PB_HTYPE_OPTIONAL:  // nanopb's mark for a scalar of proto3 too, which then has no flag
        if (PB_ATYPE(field.type) == PB_ATYPE_POINTER) return true;
        if (field.pSize != nullptr) return *static_cast<const bool*>(field.pSize);
        return !is_scalar(field) || wire_integer(field, field.pData) != 0;
      default:
        return true;
    }
  }

  void element(const pb_field_iter_t& field, const void* data) {
    key(field, wire_type(field.type));
    if (PB_LTYPE_IS_SUBMSG(field.type)) {
      sink_.nested([this, &field, data] { message(field.submsg_desc, data); });
    } else if (is_scalar(field)) {
      scalar(field, data);
    } else if (PB_ATYPE(field.type) == PB_ATYPE_POINTER && PB_LTYPE(field.type) == PB_LTYPE_STRING) {
      delimited(as_bytes(view(static_cast<const char*>(data))));
    } else if (PB_ATYPE(field.type) == PB_ATYPE_POINTER && PB_LTYPE(field.type) == PB_LTYPE_BYTES) {
      delimited(view(static_cast<const pb_bytes_array_t*>(data)));
    } else {
      unknown_ = field.tag;
    }
  }

  void delimited(BytesView bytes) {
    sink_.varint(bytes.size());
    sink_.bytes(bytes);
  }

  void scalar(const pb_field_iter_t& field, const void* data) {
    if (wire_type(field.type) == PB_WT_VARINT) {
      sink_.varint(wire_integer(field, data));
    } else {
      sink_.fixed(data, field.data_size);
    }
  }

  void large(const pb_field_iter_t& field) {
    if (field.descriptor->field_callback != limpet_large_bytes_field) {
      unknown_ = field.tag;
      return;
    }
    const auto* bytes = *static_cast<limpet_large_bytes* const*>(field.pData);
    if (bytes == nullptr) return;
    key(field, PB_WT_STRING);
    delimited(view(bytes));
  }

  void repeated(const pb_field_iter_t& field) {
    pb_size_t count = 0;
    std::memcpy(&count, field.pSize, sizeof count);
    if (count == 0 || field.pData == nullptr) return;
    const auto* first = static_cast<const uint8_t*>(field.pData);
    if (is_scalar(field)) {
      key(field, PB_WT_STRING);
      sink_.nested([&] {
        for (size_t i = 0; i < count; ++i) scalar(field, first + i * field.data_size);
      });
      return;
    }
    // strings and bytes are arrays of pointers
    const bool pointers = !PB_LTYPE_IS_SUBMSG(field.type);
    for (size_t i = 0; i < count; ++i) {
      element(field, pointers ? reinterpret_cast<const void* const*>(first)[i] : first + i * field.data_size);
    }
  }

  Sink& sink_;
  pb_size_t unknown_ = 0;
};

}  // namespace

Result<Bytes> encode_from(const pb_msgdesc_t* type, const void* message) {
  Counter counter;
  Pass measuring(counter);
  measuring.message(type, message);
  if (measuring.unknown() != 0) {
    return fail(Code::internal,
                "field " + std::to_string(measuring.unknown()) + " is of a kind that cannot be encoded");
  }
  Bytes out(counter.size());
  Writer writer(out.data(), counter.take_sizes());
  Pass(writer).message(type, message);
  return out;
}

}  // namespace limpet::wire
