// SPDX-License-Identifier: Apache-2.0
#pragma once
// The three messages of the attestor "tpm", as the SPIRE plugin of that name has them, and our two additions to them: a
// payload may say that the agent quotes PCRs, a challenge may then ask for it. Either side of SPIRE's ignores what it
// does not know. Parsers bound everything. Pure functions, any thread.

#include <optional>
#include <string>
#include <vector>

#include "crypto/x509.h"
#include "kit_tpm/credential.h"
#include "kit_tpm/pcrs.h"

namespace limpet::tpm_attestor {

inline constexpr size_t kSecretBytes = 32;
inline constexpr size_t kNonceBytes = 32;

// ---- payload ----
struct AkParts {  // each as the TPM made it, without a length in front
  Bytes public_area;
  Bytes creation_data;
  Bytes creation_attest;
  Bytes creation_signature;
};
struct PayloadParts {    // what the agent has
  Bytes ek_certificate;  // DER; empty: the TPM has none
  PublicKey ek;
  AkParts ak;
  bool quotes = true;  // say that we can answer a QuoteRequest
};
std::string encode_payload(const PayloadParts& parts);

struct Payload {  // what the server reads
  PublicKey ek;
  std::optional<Certificate> ek_certificate;  // nullopt also when it cannot be read: then it proves nothing
  std::string certificate_problem;            // why it could not be
  AkParts ak;
  bool quotes = false;  // the agent can answer a QuoteRequest
};
// INVALID_ARGUMENT; PERMISSION_DENIED where certificate and public key are of different keys.
Result<Payload> decode_payload(BytesView json);

// ---- challenge ----
struct QuoteRequest {
  Bytes nonce;
  tpm_wire::PcrSets sets;
  bool event_log = false;
};
struct Challenge {
  tpm_wire::Credential credential;
  std::optional<QuoteRequest> quote;
};
std::string encode_challenge(const Challenge& challenge);
Result<Challenge> decode_challenge(BytesView json);

// ---- response ----
struct QuoteAnswer {
  Bytes quote;      // TPMS_ATTEST
  Bytes signature;  // TPMT_SIGNATURE
  std::vector<tpm_wire::PcrBank> banks;
  Bytes event_log;                // empty: this machine has none, or
  std::string event_log_problem;  // why it could not be sent
};
struct Response {
  Bytes secret;
  std::optional<QuoteAnswer> quote;
  std::string quote_problem;  // why there is no quote, or one of less than was asked for
};
std::string encode_response(const Response& response);
Result<Response> decode_response(BytesView json);

}  // namespace limpet::tpm_attestor
