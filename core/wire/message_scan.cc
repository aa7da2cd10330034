// SPDX-License-Identifier: Apache-2.0
// The scanner that walks a message before nanopb decodes it. nanopb has no bound on depth or memory; everything it
// would do to these bytes is priced here first, with an explicit stack of at most kFrames frames.
#include <pb_common.h>

#include <array>
#include <optional>
#include <string>

#include "wire/message.h"

namespace limpet::wire {
namespace {

constexpr size_t kFrames = 64;      // more than any ScanLimits::depth in use
constexpr size_t kAllocation = 16;  // what malloc adds to each block
constexpr uint32_t kLargestField = (1u << 29) - 1;
constexpr size_t kBytesArrayMax = 65'535;  // pb_bytes_array_t counts in 16 bits

struct Cursor {
  const uint8_t* at;
  const uint8_t* end;
  [[nodiscard]] size_t left() const { return static_cast<size_t>(end - at); }
};

// At most ten bytes, the tenth at most 1.
std::optional<uint64_t> read_varint(Cursor& in) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    if (in.at == in.end) return std::nullopt;
    const uint8_t byte = *in.at++;
    if (shift == 63 && byte > 1) return std::nullopt;
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  return std::nullopt;
}

bool skip(Cursor& in, size_t count) {
  if (in.left() < count) return false;
  in.at += count;
  return true;
}

// One message being walked.
struct Frame {
  const uint8_t* end = nullptr;
  pb_field_iter_t iter = {};
  bool has_fields = false;
  uint64_t seen = 0;  // singular sub-messages and large fields, by index
};

class Scanner {
 public:
  Scanner(const ScanLimits& bounds, BytesView bytes)
      : bounds_(bounds), in_{bytes.data(), bytes.data() + bytes.size()} {}

  Result<void> run(const pb_msgdesc_t* type) {
    TRY(push(type, in_.left()));
    while (depth_ > 0) {
      Frame& top = frames_[depth_ - 1];
      if (in_.at == top.end) {
        --depth_;
        continue;
      }
      TRY(field(top));
    }
    return {};
  }

 private:
  static std::unexpected<Error> malformed(std::string what) {
    return fail(Code::invalid_argument, "malformed message: " + std::move(what));
  }
  std::unexpected<Error> malformed_in(uint32_t tag, const char* what) const {
    return malformed("field " + std::to_string(tag) + ": " + what);
  }

  Result<void> spend(size_t items, size_t memory) {
    items_ += items;
    memory_ += memory;
    if (items_ > bounds_.items) {
      return fail(Code::resource_exhausted, "message has more than " + std::to_string(bounds_.items) + " items");
    }
    if (memory_ > bounds_.memory) {
      return fail(Code::resource_exhausted,
                  "message would need more than " + std::to_string(bounds_.memory) + " bytes of memory");
    }
    return {};
  }

  Result<void> push(const pb_msgdesc_t* type, size_t length) {
    if (depth_ >= kFrames || depth_ >= static_cast<size_t>(bounds_.depth)) {
      return fail(Code::resource_exhausted,
                  "message is nested deeper than " + std::to_string(bounds_.depth) + " levels");
    }
    Frame& frame = frames_[depth_++];
    frame.end = in_.at + length;
    frame.has_fields = pb_field_iter_begin(&frame.iter, type, nullptr);
    frame.seen = 0;
    return {};
  }

  // A length prefix that fits into what is left of the message.
  Result<size_t> length(const Frame& frame, uint32_t tag) {
    Cursor in{in_.at, frame.end};
    const auto value = read_varint(in);
    if (!value) return malformed_in(tag, "bad length");
    if (*value > in.left()) return malformed_in(tag, "length beyond the end");
    in_.at = in.at;
    return static_cast<size_t>(*value);
  }

  Result<void> skip_value(const Frame& frame, uint32_t tag, uint32_t wire_type) {
    Cursor in{in_.at, frame.end};
    switch (wire_type) {
      case PB_WT_VARINT:
        if (!read_varint(in)) return malformed_in(tag, "bad varint");
        break;
      case PB_WT_64BIT:
        if (!skip(in, 8)) return malformed_in(tag, "truncated");
        break;
      case PB_WT_32BIT:
        if (!skip(in, 4)) return malformed_in(tag, "truncated");
        break;
      case PB_WT_STRING: {
        TRY_ASSIGN(const size_t size, length(frame, tag));
        in_.at += size;
        return {};
      }
      default:
        return malformed_in(tag, "groups are not supported");
    }
    in_.at = in.at;
    return {};
  }

  Result<void> field(Frame& frame) {
    Cursor in{in_.at, frame.end};
    const auto key = read_varint(in);
    if (!key || (*key >> 3) == 0 || (*key >> 3) > kLargestField) return malformed("bad field key");
    in_.at = in.at;
    const auto tag = static_cast<uint32_t>(*key >> 3);
    const auto wire_type = static_cast<uint32_t>(*key & 7);
    if (!frame.has_fields || !pb_field_iter_find(&frame.iter, tag)) return skip_value(frame, tag, wire_type);
    if (PB_LTYPE(frame.iter.type) <= PB_LTYPE_LAST_PACKABLE && PB_ATYPE(frame.iter.type) != PB_ATYPE_CALLBACK) {
      return scalar(frame, tag, wire_type);
    }
    if (wire_type != PB_WT_STRING) return malformed_in(tag, "wrong wire type");
    TRY_ASSIGN(const size_t size, length(frame, tag));
    return delimited(frame, tag, size);
  }

  static uint32_t scalar_wire_type(pb_type_t type) {
    switch (PB_LTYPE(type)) {
      case PB_LTYPE_FIXED32:
        return PB_WT_32BIT;
      case PB_LTYPE_FIXED64:
        return PB_WT_64BIT;
      default:
        return PB_WT_VARINT;
    }
  }

  Result<void> scalar(Frame& frame, uint32_t tag, uint32_t wire_type) {
    const bool repeated = PB_HTYPE(frame.iter.type) == PB_HTYPE_REPEATED;
    const uint32_t expected = scalar_wire_type(frame.iter.type);
    if (wire_type == expected) {
      if (repeated) TRY(spend(1, frame.iter.data_size));
      return skip_value(frame, tag, wire_type);
    }
    if (wire_type != PB_WT_STRING || !repeated) return malformed_in(tag, "wrong wire type");
    TRY_ASSIGN(const size_t size, length(frame, tag));
    Cursor in{in_.at, in_.at + size};
    while (in.at != in.end) {
      const bool good =
          expected == PB_WT_VARINT ? read_varint(in).has_value() : skip(in, expected == PB_WT_32BIT ? 4 : 8);
      if (!good) return malformed_in(tag, "bad packed array");
      TRY(spend(1, frame.iter.data_size));
    }
    in_.at = in.at;
    return {};
  }

  Result<void> once(Frame& frame, uint32_t tag) {
    const uint64_t bit = uint64_t{1} << (frame.iter.index & 63);
    if ((frame.seen & bit) != 0) return malformed_in(tag, "occurs twice");
    frame.seen |= bit;
    return {};
  }

  Result<void> delimited(Frame& frame, uint32_t tag, size_t size) {
    const pb_type_t type = frame.iter.type;
    const bool repeated = PB_HTYPE(type) == PB_HTYPE_REPEATED;
    const bool callback = PB_ATYPE(type) == PB_ATYPE_CALLBACK;
    if (!repeated && (callback || PB_LTYPE_IS_SUBMSG(type))) TRY(once(frame, tag));
    TRY(spend(repeated || PB_LTYPE_IS_SUBMSG(type) ? 1 : 0, 0));
    if (PB_LTYPE_IS_SUBMSG(type)) {
      TRY(spend(0, frame.iter.data_size));
      return push(frame.iter.submsg_desc, size);
    }
    TRY(spend(0, size + kAllocation + sizeof(void*)));
    const std::string_view text(reinterpret_cast<const char*>(in_.at), size);
    if (PB_LTYPE(type) == PB_LTYPE_STRING) {
      if (text.find('\0') != std::string_view::npos) return malformed_in(tag, "NUL inside a string");
      if (!is_utf8(text)) return malformed_in(tag, "string is not valid UTF-8");
    } else if (!callback && size > kBytesArrayMax) {
      return fail(Code::resource_exhausted,
                  "field " + std::to_string(tag) + " has more than " + std::to_string(kBytesArrayMax) + " bytes");
    }
    in_.at += size;
    return {};
  }

  const ScanLimits& bounds_;
  Cursor in_;
  std::array<Frame, kFrames> frames_ = {};
  size_t depth_ = 0;
  size_t items_ = 0;
  size_t memory_ = 0;
};

}  // namespace

Result<void> scan_message(const pb_msgdesc_t* type, BytesView bytes, const ScanLimits& bounds) {
  return Scanner(bounds, bytes).run(type);
}

}  // namespace limpet::wire
