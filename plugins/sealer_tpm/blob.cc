// SPDX-License-Identifier: Apache-2.0
#include "sealer_tpm/blob.h"

#include <bit>

#include "kit_tpm/fields.h"
#include "kit_tpm/structures.h"

namespace limpet::sealer_tpm {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint32_t kAllPcrs = 0xffffff;
constexpr size_t kMaxPcrBytes = 64;  // SHA-512

using tpm_wire::Fields;
using tpm_wire::put_sized;

}  // namespace

Bytes encode_blob(const Blob& blob) {
  Bytes out;
  out.push_back(kVersion);
  tpm_wire::put_u16(out, blob.pcrs.bank);
  tpm_wire::put_u32(out, blob.pcrs.mask);
  out.push_back(static_cast<uint8_t>(blob.pcr_values.size()));
  for (const Bytes& value : blob.pcr_values) {
    out.push_back(static_cast<uint8_t>(value.size()));
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
  Fields in(text);
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
    out.pcr_values.push_back(to_bytes(in.sized(1)));
    if (out.pcr_values.back().empty() || out.pcr_values.back().size() > kMaxPcrBytes) return damaged();
  }
  out.root_name = to_bytes(in.sized());
  out.data_key.public_area = to_bytes(in.sized());
  out.data_key.private_area = to_bytes(in.sized());
  out.ciphertext = to_bytes(in.sized());
  if (!in.finished() || out.root_name.empty() || out.data_key.public_area.empty() || out.ciphertext.empty()) {
    return damaged();
  }
  return out;
}

}  // namespace limpet::sealer_tpm
