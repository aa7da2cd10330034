// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/pcrs.h"

#include <algorithm>

namespace limpet::tpm_wire {
namespace {

struct BankName {
  uint16_t hash;
  std::string_view name;
};
constexpr BankName kBanks[] = {{kAlgSha256, "sha256"}, {kAlgSha384, "sha384"}, {kAlgSha512, "sha512"}};

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

}  // namespace

Result<uint16_t> parse_bank(std::string_view name) {
  for (const BankName& bank : kBanks)
    if (bank.name == name) return bank.hash;
  return invalid("bank \"" + std::string(name) + "\" is not one of sha256, sha384 and sha512");
}

std::string bank_name(uint16_t hash) {
  for (const BankName& bank : kBanks)
    if (bank.hash == hash) return std::string(bank.name);
  return std::to_string(hash);
}

void add_pcrs(PcrSets& sets, uint16_t hash, const std::vector<uint32_t>& pcrs) {
  auto place = std::ranges::find(sets, hash, &PcrSelection::hash);
  if (place == sets.end()) place = sets.insert(sets.end(), PcrSelection{hash, {}});
  place->pcrs.insert(place->pcrs.end(), pcrs.begin(), pcrs.end());
  std::ranges::sort(place->pcrs);
  const auto tail = std::ranges::unique(place->pcrs);
  place->pcrs.erase(tail.begin(), tail.end());
}

Result<Bytes> pcr_digest(const PcrBank& bank, const std::vector<uint32_t>& pcrs) {
  TRY_ASSIGN(const HashAlg alg, hash_of(bank.hash));
  Bytes all;
  for (const uint32_t pcr : pcrs) {
    const auto value = bank.values.find(pcr);
    if (value == bank.values.end())
      return invalid("PCR " + std::to_string(pcr) + " of bank " + bank_name(bank.hash) + " is missing");
    append(all, value->second);
  }
  return hash(alg, all);
}

Result<void> check_quoted(const Attest& quote, HashAlg hash, const PcrSets& asked, const std::vector<PcrBank>& banks) {
  // A bank that the TPM does not have comes back with nothing selected in it.
  if (quote.selected != asked) return invalid("the quote is over other PCRs than those of the answer");
  Bytes all;
  for (const PcrSelection& set : asked) {
    TRY_ASSIGN(const HashAlg alg, hash_of(set.hash));
    const auto bank = std::ranges::find(banks, set.hash, &PcrBank::hash);
    if (bank == banks.end() || bank->values.size() != set.pcrs.size())
      return invalid("values of bank " + bank_name(set.hash) + " are missing");
    for (const uint32_t pcr : set.pcrs) {
      const auto value = bank->values.find(pcr);
      if (value == bank->values.end() || value->second.size() != hash_bytes(alg))
        return invalid("PCR " + std::to_string(pcr) + " of bank " + bank_name(set.hash) + " is missing or malformed");
      append(all, value->second);
    }
  }
  if (limpet::hash(hash, all) != quote.pcr_digest) return invalid("the PCR values are not those that were quoted");
  return {};
}

}  // namespace limpet::tpm_wire
