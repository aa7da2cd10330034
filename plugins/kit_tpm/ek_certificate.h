// SPDX-License-Identifier: Apache-2.0
#pragma once
// Certificates of endorsement keys, as TPM makers issue them (TCG EK Credential Profile 2.x): what they must say, and
// who may have signed them. Pure functions; verifying burns CPU.

#include <span>
#include <string>

#include "crypto/x509.h"

namespace limpet::tpm_wire {

// From the subject alternative name, 2.23.133.2.1 to .3: "id:49424D00", "swtpm", "id:20191023".
struct TpmModel {
  std::string manufacturer;
  std::string model;
  std::string version;
};

// The strict profile. INVALID_ARGUMENT names what is missing or too much.
Result<TpmModel> check_ek_profile(const Certificate& certificate);

// Issued by one of the given authorities, all of them trusted: no intermediates. A critical subject alternative name
// of the profile's kind is understood, another critical extension is not. INVALID_ARGUMENT.
Result<void> verify_ek_issuer(const Certificate& certificate, std::span<const Certificate> authorities, int64_t now);

}  // namespace limpet::tpm_wire
