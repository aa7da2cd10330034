// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_tpm/evidence.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "kit/pem_files.h"
#include "kit_tpm/endorsement.h"
#include "kit_tpm/event_log.h"

namespace limpet::tpm_attestor {
namespace {

constexpr int kQuoteAttempts = 4;  // a PCR may be extended between reading and quoting

// Under the endorsement hierarchy, as the reference plugin does it: what a key there signs tells the true firmware
// version (Library Part 1, 36.7). An EC parent takes a TPM milliseconds, an RSA one seconds.
Result<tpm::Object> open_parent(tpm::Tpm& tpm) {
  TRY_ASSIGN(const bool ecc, tpm.has_curve(tpm::kCurveP256));
  return tpm.create_primary(tpm::Hierarchy::endorsement, ecc ? tpm::srk_ecc() : tpm::srk_rsa());
}

Result<void> make_ak(tpm::Tpm& tpm, tpm::EkKind kind, Evidence& out) {
  TRY_ASSIGN(const tpm::Object parent, open_parent(tpm));
  TRY_ASSIGN(const tpm::Created created,
             tpm.create(parent, kind == tpm::EkKind::rsa_2048 ? tpm::ak_rsa(true) : tpm::ak_ecc(true)));
  TRY_ASSIGN(const tpm::Object ak, tpm.load(parent, created.blob));
  TRY_ASSIGN(tpm::Attested creation, tpm.certify_creation(ak, ak, created));
  out.parts.ak = {created.blob.public_area, created.creation_data, std::move(creation.attest),
                  std::move(creation.signature)};
  out.ak_name = ak.name();
  TRY_ASSIGN(out.saved_ak, tpm.save(ak));
  return {};
}

void note(std::string& problem, const std::string& what) { problem += (problem.empty() ? "" : "; ") + what; }

// Of the PCRs asked for those whose bank is switched on.
Result<tpm_wire::PcrSets> those_here(tpm::Tpm& tpm, tpm_wire::PcrSets asked, std::string& problem) {
  TRY_ASSIGN(const std::vector<uint16_t> banks, tpm.pcr_banks());
  std::erase_if(asked, [&](const tpm_wire::PcrSelection& set) {
    const bool here = std::ranges::find(banks, set.hash) != banks.end();
    if (!here) note(problem, "bank " + tpm_wire::bank_name(set.hash) + " is not switched on in this TPM");
    return !here;
  });
  return asked;
}

std::vector<tpm::PcrSelection> selections_of(const tpm_wire::PcrSets& sets) {
  std::vector<tpm::PcrSelection> out;
  for (const tpm_wire::PcrSelection& set : sets) {
    out.push_back({set.hash, 0});
    for (const uint32_t pcr : set.pcrs) out.back().mask |= 1u << pcr;
  }
  return out;
}

Result<std::vector<tpm_wire::PcrBank>> read_banks(tpm::Tpm& tpm, const tpm_wire::PcrSets& sets) {
  std::vector<tpm_wire::PcrBank> out;
  for (const tpm::PcrSelection& set : selections_of(sets)) {
    TRY_ASSIGN(std::vector<Bytes> values, tpm.read_pcrs(set));
    tpm_wire::PcrBank bank{set.bank, {}};
    size_t next = 0;
    for (uint32_t pcr = 0; pcr < tpm_wire::kPcrs && next < values.size(); ++pcr)
      if ((set.mask >> pcr & 1) != 0) bank.values.emplace(pcr, std::move(values[next++]));
    out.push_back(std::move(bank));
  }
  return out;
}

// Leaves out what has changed since the first reading: with IMA, PCR 10 does whenever somebody opens another file.
void leave_out_restless(tpm_wire::PcrSets& sets, std::vector<tpm_wire::PcrBank>& banks,
                        const std::vector<tpm_wire::PcrBank>& first, std::string& problem) {
  for (size_t i = 0; i < sets.size(); ++i) {
    std::erase_if(sets[i].pcrs, [&](uint32_t pcr) {
      const bool same = first[i].values.at(pcr) == banks[i].values.at(pcr);
      if (same) return false;
      note(problem,
           "PCR " + std::to_string(pcr) + " of bank " + tpm_wire::bank_name(sets[i].hash) + " does not stand still");
      banks[i].values.erase(pcr);
      return true;
    });
  }
  std::erase_if(sets, [](const tpm_wire::PcrSelection& set) { return set.pcrs.empty(); });
  std::erase_if(banks, [](const tpm_wire::PcrBank& bank) { return bank.values.empty(); });
}

void read_event_log(QuoteAnswer& out, const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return;
  auto text = kit::read_file(path, tpm_wire::kMaxEventLogBytes);
  if (text) out.event_log = to_bytes(*text);
  if (!text) out.event_log_problem = text.error().message;
}

Result<void> quote(tpm::Tpm& tpm, const tpm::Object& ak, const QuoteRequest& request, const AnswerOptions& options,
                   Response& out) {
  TRY_ASSIGN(tpm_wire::PcrSets sets, those_here(tpm, request.sets, out.quote_problem));
  std::vector<tpm_wire::PcrBank> first;
  for (int attempt = 1; !sets.empty(); ++attempt) {
    TRY_ASSIGN(std::vector<tpm_wire::PcrBank> banks, read_banks(tpm, sets));
    if (attempt == 1) first = banks;
    if (attempt == kQuoteAttempts) leave_out_restless(sets, banks, first, out.quote_problem);
    if (sets.empty()) return {};
    TRY_ASSIGN(tpm::Attested attested, tpm.quote(ak, request.nonce, selections_of(sets)));
    TRY_ASSIGN(const tpm_wire::Attest parsed, tpm_wire::Attest::parse(attested.attest));
    TRY_ASSIGN(const tpm_wire::Signature signature, tpm_wire::Signature::parse(attested.signature));
    if (const auto same = tpm_wire::check_quoted(parsed, signature.hash, sets, banks); !same) {
      if (attempt < kQuoteAttempts) continue;
      note(out.quote_problem, same.error().message);
      return {};
    }
    out.quote = QuoteAnswer{std::move(attested.attest), std::move(attested.signature), std::move(banks), {}, {}};
    if (request.event_log) read_event_log(*out.quote, options.event_log_path);
    return {};
  }
  return {};
}

}  // namespace

Result<Evidence> make_evidence(const tpm::Device& device, tpm::EkKind kind) {
  TRY_ASSIGN(const std::unique_ptr<tpm::Tpm> tpm, device.open());
  Evidence out;
  TRY_WITHIN("attestation key", make_ak(*tpm, kind, out));
  TRY_ASSIGN(tpm::Endorsement endorsement, tpm::open_endorsement(*tpm, kind));
  TRY_ASSIGN(out.parts.ek, tpm::public_key_of(endorsement.key.public_area()));
  out.parts.ek_certificate = std::move(endorsement.certificate);
  out.certificate_problem = std::move(endorsement.problem);
  return out;
}

Result<Response> answer_challenge(const tpm::Device& device, tpm::EkKind kind, const Evidence& evidence,
                                  const Challenge& challenge, const AnswerOptions& options) {
  TRY_ASSIGN(const std::unique_ptr<tpm::Tpm> tpm, device.open());
  TRY_ASSIGN_WITHIN("attestation key", const tpm::Object ak,
                    tpm->load_saved(evidence.saved_ak, evidence.parts.ak.public_area, evidence.ak_name));
  Response out;
  {
    TRY_ASSIGN(const tpm::Endorsement endorsement, tpm::open_endorsement(*tpm, kind));
    TRY_ASSIGN_WITHIN(
        "activate credential", const SecretBytes secret,
        tpm->activate_credential(ak, endorsement.key, challenge.credential.id_object, challenge.credential.secret));
    out.secret = to_bytes(secret.view());
  }
  if (challenge.quote && options.quote) {
    TRY(quote(*tpm, ak, *challenge.quote, options, out));
  }
  return out;
}

}  // namespace limpet::tpm_attestor
