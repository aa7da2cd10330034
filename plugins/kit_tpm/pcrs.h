// SPDX-License-Identifier: Apache-2.0
#pragma once
// PCR values under a quote, and the digest by which operators name them: the hash, by the bank's own algorithm, of the
// values of a set of PCRs in ascending order, as `limpet tpm info` prints it. Pure, any thread.

#include <map>
#include <string>

#include "kit_tpm/structures.h"

namespace limpet::tpm_wire {

inline constexpr uint32_t kPcrs = 24;

using PcrSets = std::vector<PcrSelection>;  // one a bank
struct PcrBank {
  uint16_t hash = 0;
  std::map<uint32_t, Bytes> values;
};

Result<uint16_t> parse_bank(std::string_view name);  // "sha256", "sha384", "sha512"; INVALID_ARGUMENT
std::string bank_name(uint16_t hash);
// Adds PCRs to a list of sets that stays without duplicates.
void add_pcrs(PcrSets& sets, uint16_t hash, const std::vector<uint32_t>& pcrs);

// The digest of some of a bank's PCRs. INVALID_ARGUMENT: one of them is not there.
Result<Bytes> pcr_digest(const PcrBank& bank, const std::vector<uint32_t>& pcrs);

// That a quote signs exactly these values of exactly these PCRs. `hash` is the signature's. INVALID_ARGUMENT.
Result<void> check_quoted(const Attest& quote, HashAlg hash, const PcrSets& asked, const std::vector<PcrBank>& banks);

}  // namespace limpet::tpm_wire
