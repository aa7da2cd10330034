// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_tpm/evidence.h"

#include "kit/pem_files.h"
#include "kit_tpm/endorsement.h"
#include "kit_tpm/event_log.h"

namespace limpet::tpm_attestor {
namespace {

constexpr int kQuoteAttempts = 3;  // a PCR may be extended between reading and quoting

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

Result<std::vector<tpm_wire::PcrBank>> read_banks(tpm::Tpm& tpm, const std::vector<tpm::PcrSelection>& wanted) {
  std::vector<tpm_wire::PcrBank> out;
  for (const tpm::PcrSelection& set : wanted) {
    TRY_ASSIGN(std::vector<Bytes> values, tpm.read_pcrs(set));
    tpm_wire::PcrBank bank{set.bank, {}};
    size_t next = 0;
    for (uint32_t pcr = 0; pcr < tpm_wire::kPcrs && next < values.size(); ++pcr)
      if ((set.mask >> pcr & 1) != 0) bank.values.emplace(pcr, std::move(values[next++]));
    out.push_back(std::move(bank));
  }
  return out;
}

Result<QuoteAnswer> quote(tpm::Tpm& tpm, const tpm::Object& ak, const QuoteRequest& request,
                          const AnswerOptions& options) {
  std::vector<tpm::PcrSelection> wanted;
  for (const tpm_wire::PcrSelection& set : request.sets) {
    tpm::PcrSelection selection{set.hash, 0};
    for (const uint32_t pcr : set.pcrs) selection.mask |= 1u << pcr;
    wanted.push_back(selection);
  }
  QuoteAnswer out;
  for (int attempt = 1;; ++attempt) {
    TRY_ASSIGN(out.banks, read_banks(tpm, wanted));
    TRY_ASSIGN(tpm::Attested attested, tpm.quote(ak, request.nonce, wanted));
    out.quote = std::move(attested.attest);
    out.signature = std::move(attested.signature);
    TRY_ASSIGN(const tpm_wire::Attest parsed, tpm_wire::Attest::parse(out.quote));
    TRY_ASSIGN(const tpm_wire::Signature signature, tpm_wire::Signature::parse(out.signature));
    const auto same = tpm_wire::check_quoted(parsed, signature.hash, request.sets, out.banks);
    if (same) break;
    if (attempt == kQuoteAttempts) return fail(Code::unavailable, "PCR quote: " + same.error().message);
  }
  if (request.event_log)
    out.event_log = to_bytes(kit::read_file(options.event_log_path, tpm_wire::kMaxEventLogBytes).value_or(""));
  return out;
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
    TRY_ASSIGN(out.quote, quote(*tpm, ak, *challenge.quote, options));
  }
  return out;
}

}  // namespace limpet::tpm_attestor
