// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_tpm/checks.h"

#include <algorithm>

#include "kit_tpm/event_log.h"

namespace limpet::tpm_attestor {
namespace {

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<void> check_attributes(const tpm_wire::Public& key) {
  struct Rule {
    uint32_t bit;
    const char* text;
  };
  constexpr Rule kRules[] = {{tpm_wire::kFixedTpm, "fixedTPM"},
                             {tpm_wire::kRestricted, "restricted"},
                             {tpm_wire::kFixedParent, "fixedParent"},
                             {tpm_wire::kSensitiveDataOrigin, "sensitiveDataOrigin"},
                             {tpm_wire::kSign, "sign"}};
  for (const Rule& rule : kRules)
    if (!key.has(rule.bit)) return invalid(std::string("the key is not ") + rule.text);
  if (key.has(tpm_wire::kDecrypt)) return invalid("the key may decrypt");
  return {};
}

// The TPM's own word, by the key itself, on how the key was made.
Result<CheckedAk> check_creation(const AkParts& parts) {
  CheckedAk out;
  TRY_ASSIGN(out.key, tpm_wire::Public::parse(parts.public_area));
  TRY(check_attributes(out.key));
  TRY_ASSIGN(const tpm_wire::Attest attest, tpm_wire::Attest::parse(parts.creation_attest));
  if (attest.type != tpm_wire::kAttestCreation) return invalid("the attestation is not one of a creation");
  TRY_ASSIGN(const tpm_wire::CreationData data, tpm_wire::CreationData::parse(parts.creation_data));
  TRY_ASSIGN(const HashAlg alg, tpm_wire::hash_of(out.key.name_alg));
  if (hash(alg, parts.creation_data) != attest.creation_hash)
    return invalid("the creation data is not what was attested");
  if (attest.name != out.key.name()) return invalid("the attested key is another one");
  TRY_ASSIGN(const tpm_wire::Signature signature, tpm_wire::Signature::parse(parts.creation_signature));
  TRY(signature.verify(out.key.key, parts.creation_attest));
  out.under_endorsement = data.under_endorsement();
  return out;
}

// "7.85" of 0x00070055000011cb: what a TPM reports as TPM2_PT_FIRMWARE_VERSION_1.
std::string version_text(uint64_t firmware) {
  return std::to_string(firmware >> 48) + "." + std::to_string(firmware >> 32 & 0xffff);
}

// What the log shows goes to `selectors`; the error is what it does not.
Result<void> read_event_log(const QuoteAnswer& answer, std::vector<std::string>& selectors) {
  if (answer.event_log.empty() && !answer.event_log_problem.empty())
    return invalid("the machine's event log could not be read: " + answer.event_log_problem);
  if (answer.event_log.empty()) return invalid("the machine has no event log");
  const auto bank = std::ranges::find(answer.banks, tpm_wire::kAlgSha256, &tpm_wire::PcrBank::hash);
  if (bank == answer.banks.end()) return invalid("bank sha256 was not quoted");
  TRY_ASSIGN(const auto events, tpm_wire::parse_event_log(answer.event_log, tpm_wire::kAlgSha256));
  TRY(tpm_wire::check_replay(events, *bank));
  selectors.emplace_back("eventlog:verified");
  TRY_ASSIGN(const bool secure, tpm_wire::secure_boot(events, tpm_wire::kAlgSha256));
  selectors.emplace_back(secure ? "secureboot:enabled" : "secureboot:disabled");
  return {};
}

// That nothing else than what was asked for is answered; what it is of that.
Result<tpm_wire::PcrSets> answered(const QuoteRequest& request, const std::vector<tpm_wire::PcrBank>& banks) {
  tpm_wire::PcrSets out;
  for (const tpm_wire::PcrBank& bank : banks) {
    const auto asked = std::ranges::find(request.sets, bank.hash, &tpm_wire::PcrSelection::hash);
    if (asked == request.sets.end()) return invalid("bank " + tpm_wire::bank_name(bank.hash) + " was not asked for");
    out.push_back({bank.hash, {}});
    for (const auto& [pcr, value] : bank.values) {
      if (std::ranges::find(asked->pcrs, pcr) == asked->pcrs.end())
        return invalid("PCR " + std::to_string(pcr) + " of bank " + tpm_wire::bank_name(bank.hash) +
                       " was not asked for");
      out.back().pcrs.push_back(pcr);
    }
  }
  return out;
}

Result<Bytes> digest_for(const PcrPolicy& policy, const std::vector<tpm_wire::PcrBank>& banks) {
  const auto bank = std::ranges::find(banks, policy.set.hash, &tpm_wire::PcrBank::hash);
  if (bank == banks.end()) return invalid("bank " + tpm_wire::bank_name(policy.set.hash) + " was not quoted");
  for (const uint32_t pcr : policy.set.pcrs)
    if (!bank->values.contains(pcr))
      return invalid("PCR " + std::to_string(pcr) + " of bank " + tpm_wire::bank_name(policy.set.hash) +
                     " was not quoted");
  return tpm_wire::pcr_digest(*bank, policy.set.pcrs);
}

Verdict judge(const PcrPolicy& policy, const std::vector<tpm_wire::PcrBank>& banks, int64_t now) {
  Verdict out{policy.name, policy.observe, false, {}, {}};
  const auto digest = digest_for(policy, banks);
  if (!digest) {
    out.missing = digest.error().message;
    return out;
  }
  out.accepted = policy.accepts(*digest, now);
  out.digest = hex_encode(*digest);
  return out;
}

Result<void> check_signed(const QuoteAnswer& answer, const QuoteRequest& request, const CheckedAk& ak,
                          tpm_wire::Attest& quote) {
  TRY_ASSIGN(quote, tpm_wire::Attest::parse(answer.quote));
  if (quote.type != tpm_wire::kAttestQuote) return invalid("the attestation is not a quote");
  TRY_ASSIGN(const tpm_wire::Signature signature, tpm_wire::Signature::parse(answer.signature));
  TRY(signature.verify(ak.key.key, answer.quote));
  if (quote.extra_data != request.nonce) return invalid("the quote answers another challenge");
  TRY_ASSIGN(const tpm_wire::PcrSets sets, answered(request, answer.banks));
  return tpm_wire::check_quoted(quote, signature.hash, sets, answer.banks);
}

}  // namespace

std::string ek_hash(const PublicKey& ek) { return hex_encode(sha256(ek.spki())); }

Result<CheckedAk> check_ak(const AkParts& parts) {
  TRY_ASSIGN_WITHIN("AK", CheckedAk out, check_creation(parts));
  return out;
}

Result<MachineState> check_quote(const std::optional<QuoteAnswer>& answer, const QuoteRequest& request,
                                 const CheckedAk& ak, const std::vector<PcrPolicy>& policies, int64_t now) {
  tpm_wire::Attest quote;
  if (answer) {
    if (auto good = check_signed(*answer, request, ak, quote); !good)
      return fail(Code::permission_denied, "PCR quote: " + good.error().message);
  }
  MachineState out;
  for (const PcrPolicy& policy : policies) {
    out.verdicts.push_back(judge(policy, answer ? answer->banks : std::vector<tpm_wire::PcrBank>(), now));
    const Verdict& verdict = out.verdicts.back();
    if (verdict.accepted && !verdict.observe) out.selectors.push_back("pcr_policy:" + policy.name);
  }
  if (!answer) {
    if (request.event_log) out.event_log_problem = "no PCRs were quoted";
    return out;
  }
  if (ak.under_endorsement) out.selectors.push_back("fw_version:" + version_text(quote.firmware_version));
  if (!request.event_log) return out;
  const auto read = read_event_log(*answer, out.selectors);
  if (!read) out.event_log_problem = read.error().message;
  return out;
}

}  // namespace limpet::tpm_attestor
