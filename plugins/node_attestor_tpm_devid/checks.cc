// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_tpm_devid/checks.h"

#include <set>

#include "kit/chains.h"
#include "kit/names.h"
#include "kit/twin.h"
#include "kit_tpm/ek_certificate.h"

namespace limpet::tpm_devid {
namespace {

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

struct Rule {
  uint32_t bit;
  const char* text;
};
Result<void> check_attributes(const tpm_wire::Public& key, std::initializer_list<Rule> rules) {
  for (const Rule& rule : rules)
    if (!key.has(rule.bit)) return invalid(std::string("the key is not ") + rule.text);
  return {};
}

// The attestation key may sign nothing but what its TPM made: else its word on the DevID key is worth nothing.
Result<tpm_wire::Public> read_ak(const Payload& payload) {
  TRY_ASSIGN(tpm_wire::Public out, tpm_wire::Public::parse(payload.ak_public));
  TRY(check_attributes(out, {{tpm_wire::kFixedTpm, "fixedTPM"},
                             {tpm_wire::kRestricted, "restricted"},
                             {tpm_wire::kFixedParent, "fixedParent"},
                             {tpm_wire::kSensitiveDataOrigin, "sensitiveDataOrigin"},
                             {tpm_wire::kSign, "sign"}}));
  if (out.has(tpm_wire::kDecrypt)) return invalid("the key may decrypt");
  return out;
}

Result<void> check_certification(const Payload& payload, const tpm_wire::Public& ak, const tpm_wire::Public& devid) {
  TRY_ASSIGN(const tpm_wire::Signature signature, tpm_wire::Signature::parse(payload.certification_signature));
  TRY(signature.verify(ak.key, payload.certified_devid));
  TRY_ASSIGN(const tpm_wire::Attest attest, tpm_wire::Attest::parse(payload.certified_devid));
  if (attest.type != tpm_wire::kAttestCertify) return invalid("the attestation is not a certification");
  if (attest.name != devid.name()) return invalid("the certified key is another one");
  return {};
}

std::vector<std::string> make_selectors(const Certificate& leaf, const std::vector<kit::Chain>& chains) {
  std::vector<std::string> out;
  if (const std::string cn = kit::common_name(leaf.subject); !cn.empty()) out.push_back("subject:cn:" + cn);
  for (const auto& [oid, value] : kit::name_attributes(leaf.subject)) out.push_back("subject:oid:" + oid + ":" + value);
  if (const std::string cn = kit::common_name(leaf.issuer); !cn.empty()) out.push_back("issuer:cn:" + cn);
  std::set<std::string> seen;
  for (const kit::Chain& chain : chains) {
    for (size_t i = 1; i < chain.size(); ++i) {
      if (std::string print = kit::fingerprint(*chain[i]); seen.insert(print).second)
        out.push_back("ca:fingerprint:" + print);
    }
  }
  return out;
}

}  // namespace

Result<Device> check_residency(const Payload& payload, const Certificate& devid, const Certificate& ek) {
  Device out;
  TRY_ASSIGN_WITHIN("DevIDPub", const tpm_wire::Public devid_public, tpm_wire::Public::parse(payload.devid_public));
  TRY_ASSIGN_WITHIN("EKPub", out.ek, tpm_wire::Public::parse(payload.ek_public));
  TRY_ASSIGN_WITHIN("AKPub", out.ak, read_ak(payload));
  if (!(ek.key == out.ek.key))
    return invalid("public key in EK certificate differs from public key created via EK template");
  if (!(devid.key == devid_public.key))
    return invalid("public key in DevID certificate differs from the certified DevID key");
  TRY_WITHIN("DevIDPub", check_attributes(devid_public, {{tpm_wire::kFixedTpm, "fixedTPM"},
                                                         {tpm_wire::kFixedParent, "fixedParent"}}));
  TRY_WITHIN("cannot verify that DevID is in the same TPM than AK", check_certification(payload, out.ak, devid_public));
  out.devid = devid.key;
  return out;
}

Result<Device> check_payload(const Payload& payload, const Authorities& authorities, int64_t now) {
  std::vector<Certificate> chain;
  for (const Bytes& der : payload.devid_chain) {
    TRY_ASSIGN_WITHIN("unable to parse DevID certificate", Certificate certificate, Certificate::parse(der));
    chain.push_back(std::move(certificate));
  }
  const Certificate& leaf = chain.front();
  const auto chains = kit::find_chains(leaf, std::span(chain).subspan(1), authorities.devid, now);
  if (!chains) return invalid("unable to verify DevID signature: " + chains.error().message);
  TRY_ASSIGN_WITHIN("cannot parse endorsement certificate", const Certificate ek,
                    Certificate::parse(payload.ek_certificate));
  TRY_WITHIN("cannot verify EK signature", tpm_wire::verify_ek_issuer(ek, authorities.endorsement, now));
  TRY_ASSIGN(Device out, check_residency(payload, leaf, ek));
  const std::string prefix = "/spire/agent/tpm_devid/";
  out.agent_path = prefix + kit::fingerprint(leaf);
  // A path of the leaf alone: it is a root, signed by itself.
  const Certificate& issuer = chains->front().size() > 1 ? *chains->front()[1] : leaf;
  TRY_ASSIGN_WITHIN("DevID signature", const Bytes twin, kit::certificate_twin(leaf, issuer.key));
  if (!twin.empty()) out.twin_path = prefix + hex_encode(sha1(twin));
  out.selectors = make_selectors(leaf, *chains);
  return out;
}

}  // namespace limpet::tpm_devid
