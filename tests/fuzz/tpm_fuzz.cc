// SPDX-License-Identifier: Apache-2.0
// What a peer sends of its TPM: public areas, attestations, signatures, event logs, the messages of the attestors "tpm"
// and "tpm_devid"; and the file of PCR policies.
#include "fuzz.h"
#include "kit_tpm/ek_certificate.h"
#include "kit_tpm/event_log.h"
#include "kit_tpm/structures.h"
#include "node_attestor_tpm/messages.h"
#include "node_attestor_tpm/policies.h"
#include "node_attestor_tpm_devid/checks.h"

namespace {

using namespace limpet;
using namespace limpet::tpm_wire;

void run_log(BytesView input) {
  const auto events = parse_event_log(input, kAlgSha256);
  if (!events) return;
  PcrBank bank{kAlgSha256, {}};
  for (uint32_t pcr = 0; pcr < kPcrs; ++pcr) bank.values[pcr] = Bytes(32);
  (void)check_replay(*events, bank);
  (void)secure_boot(*events, kAlgSha256);
}

void run_messages(uint8_t which, BytesView input) {
  using namespace limpet::tpm_attestor;
  if (which == 0) {
    if (const auto payload = decode_payload(input)) FUZZ_CHECK(!payload->ak.public_area.empty());
  } else if (which == 1) {
    // what is accepted can be written and read again
    if (const auto challenge = decode_challenge(input)) {
      const auto again = decode_challenge(as_bytes(encode_challenge(*challenge)));
      FUZZ_CHECK(again && again->credential.secret == challenge->credential.secret);
      FUZZ_CHECK(again->quote.has_value() == challenge->quote.has_value());
      FUZZ_CHECK(!again->quote || again->quote->sets == challenge->quote->sets);
    }
  } else if (const auto response = decode_response(input)) {
    FUZZ_CHECK(decode_response(as_bytes(encode_response(*response))).has_value());
  }
}

void run_devid(BytesView input) {
  using namespace limpet::tpm_devid;
  (void)tpm_devid::decode_challenge(input);
  (void)tpm_devid::decode_response(input);
  const auto payload = tpm_devid::decode_payload(input);
  if (!payload) return;
  const auto devid = Certificate::parse(payload->devid_chain.front());
  const auto ek = Certificate::parse(payload->ek_certificate);
  if (!devid || !ek) return;
  // nobody is trusted, so nobody gets in; and its second half looks at all of it
  FUZZ_CHECK(!check_payload(*payload, {}, devid->not_before));
  (void)check_residency(*payload, *devid, *ek);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const BytesView input(data + 1, size - 1);
  switch (data[0] % 11) {
    case 0:
      if (const auto area = Public::parse(input))
        FUZZ_CHECK(area->name().size() == 2 + hash_bytes(*hash_of(area->name_alg)));
      break;
    case 1:
      (void)Attest::parse(input);
      break;
    case 2:
      (void)Signature::parse(input);
      break;
    case 3:
      if (const auto made = CreationData::parse(input)) (void)made->under_endorsement();
      break;
    case 4:
      run_log(input);
      break;
    case 5:
      (void)tpm_attestor::parse_policies(as_text(input));
      break;
    case 6:
      if (const auto certificate = Certificate::parse(input)) {
        (void)check_ek_profile(*certificate);
        (void)verify_ek_issuer(*certificate, std::vector{*certificate}, certificate->not_before);
      }
      break;
    case 10:
      run_devid(input);
      break;
    default:
      run_messages(static_cast<uint8_t>(data[0] % 11 - 7), input);
  }
  return 0;
}
