// SPDX-License-Identifier: Apache-2.0
#pragma once
// Named PCR policies: a set of PCRs of one bank and the digests that are accepted for it, several at a time, so that
// both slots of an A/B update pass and the next release is let in before it is rolled out. They stand in a file that is
// read at each attestation: a change needs no restart. Pure once read; reading blocks.

#include <cstdint>
#include <string>
#include <vector>

#include "kit_tpm/pcrs.h"

namespace limpet::tpm_attestor {

struct AcceptedDigest {
  Bytes digest;
  int64_t from = INT64_MIN;   // Unix seconds, inclusive
  int64_t until = INT64_MAX;  // exclusive
};
struct PcrPolicy {
  std::string name;
  bool observe = false;  // only logs what it would have said
  tpm_wire::PcrSelection set;
  std::vector<AcceptedDigest> accepted;

  [[nodiscard]] bool accepts(BytesView digest, int64_t now) const;
};

// {"policies":[{"name":"prod","bank":"sha256","pcrs":[0,2,7],"mode":"enforce","accepted":["<hex>",
//   {"digest":"<hex>","from":"2026-01-01T00:00:00Z","until":"2027-01-01T00:00:00Z"}]}]}
// INVALID_ARGUMENT names policy and member.
Result<std::vector<PcrPolicy>> parse_policies(std::string_view json);
// FAILED_PRECONDITION names the file.
Result<std::vector<PcrPolicy>> read_policies(const std::string& path);

}  // namespace limpet::tpm_attestor
