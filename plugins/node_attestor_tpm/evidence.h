// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the agent half does with its TPM, two pieces of work: an attestation key and the endorsement key for a payload,
// then the answer to a challenge. Nothing stays in the TPM. Blocks.

#include <string>

#include "kit_tpm/device.h"
#include "node_attestor_tpm/messages.h"

namespace limpet::tpm_attestor {

struct Evidence {
  PayloadParts parts;
  // The attestation key as the TPM saved it: it comes back by one command, until the next reset.
  Bytes saved_ak;
  Bytes ak_name;
  std::string certificate_problem;  // what stands in the TPM in place of the endorsement key's certificate
};
// Errors are the device layer's; UNIMPLEMENTED where the TPM has no keys of this kind.
Result<Evidence> make_evidence(const tpm::Device& device, tpm::EkKind kind);

struct AnswerOptions {
  bool quote = true;           // answer requests for PCRs
  std::string event_log_path;  // of the kernel's; a machine without one sends none
};
// Quotes what this TPM has of the PCRs asked for; the response says what is missing and why.
Result<Response> answer_challenge(const tpm::Device& device, tpm::EkKind kind, const Evidence& evidence,
                                  const Challenge& challenge, const AnswerOptions& options);

}  // namespace limpet::tpm_attestor
