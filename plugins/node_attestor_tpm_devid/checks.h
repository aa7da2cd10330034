// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the server half makes sure of: that the DevID certificate was issued by a trusted authority, and that its key
// lives in the TPM whose endorsement key a trusted maker certified. Pure functions; they burn CPU.

#include <span>
#include <string>
#include <vector>

#include "crypto/x509.h"
#include "kit_tpm/structures.h"
#include "node_attestor_tpm_devid/messages.h"

namespace limpet::tpm_devid {

struct Device {
  PublicKey devid;
  tpm_wire::Public ek;
  tpm_wire::Public ak;
  std::string agent_path;
  std::string twin_path;  // of the DevID certificate's twin (kit/twin.h); empty: it has none
  std::vector<std::string> selectors;
};
struct Authorities {
  std::vector<Certificate> devid;
  std::vector<Certificate> endorsement;
};

// All checks that need no answer of the TPM's. Codes as SPIRE has them.
Result<Device> check_payload(const Payload& payload, const Authorities& authorities, int64_t now);

// Its second half, without the chains: the three keys, and the AK's word on the DevID key. INVALID_ARGUMENT.
Result<Device> check_residency(const Payload& payload, const Certificate& devid, const Certificate& ek);

}  // namespace limpet::tpm_devid
