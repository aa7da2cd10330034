// SPDX-License-Identifier: Apache-2.0
#include "sealer_tpm/blob.h"

#include <bit>

namespace limpet::sealer_tpm {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint32_t kAllPcrs = 0xffffff;
constexpr size_t kMaxPcrBytes = 64;  // SHA-512

void put(Bytes& out, uint64_t value, unsigned bytes) {
  for (unsigned i = bytes; i-- > 0;) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}
void put_sized(Bytes& out, BytesView value) {
  put(out, value.size(), 2);
  append(out, value);
}

// Once something does not fit, everything after it is empty.
class Reader {
 public:
  explicit Reader(BytesView input) : rest_(input) {}
  uint32_t number(size_t bytes) {
    uint32_t out = 0;
    for (const uint8_t byte : take(bytes)) out = out << 8 | byte;
    return out;
  }
  Bytes sized(size_t length_bytes) { return to_bytes(take(number(length_bytes))); }
  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] bool finished() const { return good_ && rest_.empty(); }

 private:
  BytesView take(size_t bytes) {
    if (bytes > rest_.size()) {
      good_ = false;
      rest_ = {};
      return {};
    }
    const BytesView out = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return out;
  }
  BytesView rest_;
  bool good_ = true;
};

}  // namespace

Bytes encode_blob(const Blob& blob) {
  Bytes out;
  put(out, kVersion, 1);
  put(out, blob.pcrs.bank, 2);
  put(out, blob.pcrs.mask, 4);
  put(out, blob.pcr_values.size(), 1);
  for (const Bytes& value : blob.pcr_values) {
    put(out, value.size(), 1);
    append(out, value);
  }
  put_sized(out, blob.root_name);
  put_sized(out, blob.data_key.public_area);
  put_sized(out, blob.data_key.private_area);
  put_sized(out, blob.ciphertext);
  return out;
}

Result<Blob> decode_blob(BytesView text) {
  const auto damaged = [] { return fail(Code::failed_precondition, "the sealed blob is damaged"); };
  Reader in(text);
  if (const uint32_t version = in.number(1); version != kVersion) {
    return fail(Code::failed_precondition,
                "the sealed blob is of version " + std::to_string(version) + ", which this plugin does not know");
  }
  Blob out;
  out.pcrs.bank = static_cast<uint16_t>(in.number(2));
  out.pcrs.mask = in.number(4);
  const uint32_t count = in.number(1);
  if ((out.pcrs.mask & ~kAllPcrs) != 0 || count != static_cast<uint32_t>(std::popcount(out.pcrs.mask)))
    return damaged();
  for (uint32_t i = 0; i < count; ++i) {
    out.pcr_values.push_back(in.sized(1));
    if (out.pcr_values.back().empty() || out.pcr_values.back().size() > kMaxPcrBytes) return damaged();
  }
  out.root_name = in.sized(2);
  out.data_key.public_area = in.sized(2);
  out.data_key.private_area = in.sized(2);
  out.ciphertext = in.sized(2);
  if (!in.finished() || out.root_name.empty() || out.data_key.public_area.empty() || out.ciphertext.empty()) {
    return damaged();
  }
  return out;
}

}  // namespace limpet::sealer_tpm
