// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the server half makes sure of: that an attestation key is one a TPM keeps to itself, and what a quote says of
// the machine's state. Pure functions; verifying burns CPU.

#include <string>
#include <vector>

#include "kit_tpm/structures.h"
#include "node_attestor_tpm/messages.h"
#include "node_attestor_tpm/policies.h"

namespace limpet::tpm_attestor {

std::string ek_hash(const PublicKey& ek);  // SHA-256 of the SubjectPublicKeyInfo, lower case hex

struct CheckedAk {
  tpm_wire::Public key;
  bool under_endorsement = false;  // then what it signs tells the true firmware version
};
// INVALID_ARGUMENT says which rule the key breaks.
Result<CheckedAk> check_ak(const AkParts& parts);

struct Verdict {
  std::string name;  // of the policy
  bool observe = false;
  bool accepted = false;
  std::string digest;   // hex
  std::string missing;  // why there is no digest
};
struct MachineState {
  std::vector<Verdict> verdicts;
  std::vector<std::string> selectors;
  std::string event_log_problem;  // why there is no secureboot selector; empty: there is one, or none was wanted
};
// The quote is the answer to `request`, over what was asked or less of it (a TPM without one of the banks, a PCR that
// never stands still), signed by the AK. PERMISSION_DENIED. No answer is none of what was asked.
Result<MachineState> check_quote(const std::optional<QuoteAnswer>& answer, const QuoteRequest& request,
                                 const CheckedAk& ak, const std::vector<PcrPolicy>& policies, int64_t now);

}  // namespace limpet::tpm_attestor
