// SPDX-License-Identifier: Apache-2.0
#pragma once
// The endorsement key that a machine attests with, and its certificate: for the agent, and for `limpet tpm info`, whose
// hash an operator enrols. Blocks.

#include <string>

#include "kit_tpm/device.h"

namespace limpet::tpm {

struct Endorsement {
  Object key;            // made anew from its template, or the one that the maker left in the TPM
  Bytes certificate;     // DER; empty: the TPM has none for this key
  std::string problem;   // what stands in the certificate's place and is left out, with its NV index
  uint32_t kept_at = 0;  // the handle of a key that the maker left
};

// A certificate of a key that came from another template belongs to the one that the maker left in the TPM. Junk in
// the certificate's NV index is no certificate: makers leave 00 and FF there. UNAVAILABLE, UNIMPLEMENTED and what else
// keeps the key from being made.
Result<Endorsement> open_endorsement(Tpm& tpm, EkKind kind);

}  // namespace limpet::tpm
