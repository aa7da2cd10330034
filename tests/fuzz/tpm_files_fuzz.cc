// SPDX-License-Identifier: Apache-2.0
// What the TPM plugins read back from disks and from the TPM: key files, sealed blobs, public areas, signatures,
// addresses.
#include "fuzz.h"
#include "key_manager_tpm2/key_directory.h"
#include "kit_tpm/device.h"
#include "sealer_tpm/blob.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const limpet::BytesView input(data + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      if (const auto key = limpet::key_manager_tpm2::decode_key_file(limpet::as_text(input))) {
        const std::string again = limpet::key_manager_tpm2::encode_key_file(key->first, key->second);
        FUZZ_CHECK(limpet::key_manager_tpm2::decode_key_file(again)->second.fingerprint == key->second.fingerprint);
      }
      break;
    case 1:
      if (const auto blob = limpet::sealer_tpm::decode_blob(input)) {
        FUZZ_CHECK(limpet::sealer_tpm::encode_blob(*blob) == limpet::to_bytes(input));
      }
      break;
    case 2:
      (void)limpet::tpm::public_key_of(input);
      (void)limpet::tpm::key_type_of(input);
      break;
    case 3:
      (void)limpet::tpm::plain_signature(input);
      break;
    default:
      if (const auto address = limpet::tpm::parse_address(limpet::as_text(input))) (void)address->text();
  }
  return 0;
}
