// SPDX-License-Identifier: Apache-2.0
#pragma once
// The three messages of SPIRE's attestor "tpm_devid". Unlike those of "tpm", credential and secret come without their
// length in front. Parsers bound everything: INVALID_ARGUMENT. Pure functions, any thread.

#include <string>
#include <vector>

#include "kit_tpm/credential.h"

namespace limpet::tpm_devid {

inline constexpr size_t kNonceBytes = 32;

struct Payload {
  std::vector<Bytes> devid_chain;  // DER, the leaf first
  Bytes devid_public;              // TPMT_PUBLIC
  Bytes ek_certificate;            // DER
  Bytes ek_public;                 // TPMT_PUBLIC
  Bytes ak_public;                 // TPMT_PUBLIC
  Bytes certified_devid;           // TPMS_ATTEST
  Bytes certification_signature;   // TPMT_SIGNATURE
};
std::string encode_payload(const Payload& payload);
Result<Payload> decode_payload(BytesView json);

struct Challenge {
  Bytes devid_nonce;
  tpm_wire::Credential credential;
};
std::string encode_challenge(const Challenge& challenge);
Result<Challenge> decode_challenge(BytesView json);

struct Response {
  Bytes devid_signature;  // PKCS#1 v1.5, or ECDSA as ASN.1, over the SHA-256 of the nonce
  Bytes secret;
};
std::string encode_response(const Response& response);
Result<Response> decode_response(BytesView json);

}  // namespace limpet::tpm_devid
