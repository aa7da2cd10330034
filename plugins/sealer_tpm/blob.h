// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the sealer hands out: the secret under AES-256-GCM, and its key as an object that only the TPM opens. Bytes 0 to
// 65,536; every length of a blob is checked, since it comes back from a disk.
//
//   1 byte version (1) | 2 PCR bank, 4 PCR mask | u8 count, that many { u8 length, the PCR's value when it was sealed }
//   | u16 root's name | u16 TPMT_PUBLIC | u16 private area | u16 ciphertext (crypto/seal.h)

#include <vector>

#include "kit_tpm/device.h"

namespace limpet::sealer_tpm {

struct Blob {
  tpm::PcrSelection pcrs;         // mask 0: no policy
  std::vector<Bytes> pcr_values;  // of the PCRs in the mask, by rising index: to say later which one changed
  Bytes root_name;                // of the storage root key
  tpm::KeyBlob data_key;          // a sealed object of 32 bytes
  Bytes ciphertext;
};

Bytes encode_blob(const Blob& blob);
Result<Blob> decode_blob(BytesView text);  // FAILED_PRECONDITION

}  // namespace limpet::sealer_tpm
