// SPDX-License-Identifier: Apache-2.0
// limpet-tpm: what `limpet tpm info` prints. A program of its own, so that the main one needs no TPM library; the main
// one reads the flags and passes their values in this order: device, files with the passwords of the endorsement and
// the owner hierarchy, bank, PCRs ("0,2,7" or ""), "pretty" or "json". The hash is that of the key which an agent with
// the plugin "tpm" attests with.
#include <yyjson.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "base/clock.h"
#include "crypto/x509.h"
#include "kit_tpm/device.h"
#include "kit_tpm/endorsement.h"
#include "kit_tpm/pcrs.h"
#include "kit_tpm/settings.h"

namespace limpet {
namespace {

struct Endorsement {
  const char* type = "";
  std::string hash;
  uint32_t kept_at = 0;  // the handle of a key that the maker left in the TPM
  std::string state;     // of its certificate: "none", "unverified", "expired", "unusable"
  std::string certificate_problem;
  std::string issuer;
  int64_t expires_at = 0;
  std::string problem;  // why there is no such key; the rest is then empty
};
struct Report {
  tpm::Info info;
  std::vector<Endorsement> keys;
  std::vector<std::string> banks;
  tpm_wire::PcrBank bank;
  std::vector<uint32_t> chosen;
  std::string digest;
  std::string pcr_problem;  // why there are no values, or no digest
};

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<std::vector<uint32_t>> parse_pcrs(std::string_view text) {
  std::vector<uint32_t> out;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    uint32_t pcr = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), pcr);
    if (error != std::errc() || end != word.data() + word.size() || pcr >= tpm_wire::kPcrs)
      return invalid("-pcrs: \"" + std::string(word) + "\" is not a number from 0 to 23");
    out.push_back(pcr);
  }
  tpm_wire::PcrSets sets;
  tpm_wire::add_pcrs(sets, 0, out);
  return sets.front().pcrs;
}

std::string issuer_of(const Certificate& certificate) {
  Certificate issuer = certificate;
  issuer.subject = certificate.issuer;
  return issuer.subject_text();
}

void read_certificate(Endorsement& out, tpm::Endorsement& found) {
  out.certificate_problem = std::move(found.problem);
  if (found.certificate.empty()) {
    out.state = out.certificate_problem.empty() ? "none" : "unusable";
    return;
  }
  const auto certificate = Certificate::parse(found.certificate);
  if (!certificate) {
    out.state = "unusable";
    out.certificate_problem = certificate.error().message;
    return;
  }
  out.issuer = issuer_of(*certificate);
  out.expires_at = certificate->not_after;
  out.state = out.expires_at < std::time(nullptr) ? "expired" : "unverified";
}

Endorsement read_endorsement(tpm::Tpm& tpm, tpm::EkKind kind) {
  Endorsement out;
  out.type = kind == tpm::EkKind::rsa_2048 ? "rsa" : "ecc";
  auto found = tpm::open_endorsement(tpm, kind);
  if (!found) {
    out.problem = found.error().message;
    return out;
  }
  const auto key = tpm::public_key_of(found->key.public_area());
  if (!key) {
    out.problem = key.error().message;
    return out;
  }
  out.hash = hex_encode(sha256(key->spki()));
  out.kept_at = found->kept_at;
  read_certificate(out, *found);
  return out;
}

Result<void> read_pcrs(Report& out, tpm::Tpm& tpm) {
  TRY_ASSIGN(std::vector<Bytes> values, tpm.read_pcrs({out.bank.hash, (1u << tpm_wire::kPcrs) - 1}));
  for (uint32_t pcr = 0; pcr < values.size(); ++pcr) out.bank.values.emplace(pcr, std::move(values[pcr]));
  if (out.chosen.empty()) return {};
  TRY_ASSIGN(const Bytes digest, tpm_wire::pcr_digest(out.bank, out.chosen));
  out.digest = hex_encode(digest);
  return {};
}

Result<Report> look(const char* device, const char* endorsement_auth, const char* owner_auth, const char* bank,
                    const char* pcrs) {
  Report out;
  tpm::DeviceSettings settings;
  TRY_ASSIGN_WITHIN("-device", settings.address, tpm::parse_address(device));
  TRY_ASSIGN_WITHIN("-endorsementAuthFile", settings.endorsement_auth, tpm::read_auth_file(endorsement_auth));
  TRY_ASSIGN_WITHIN("-ownerAuthFile", settings.owner_auth, tpm::read_auth_file(owner_auth));
  TRY_ASSIGN_WITHIN("-bank", out.bank.hash, tpm_wire::parse_bank(bank));
  TRY_ASSIGN(out.chosen, parse_pcrs(pcrs));
  const tpm::Device place(std::move(settings));
  TRY_ASSIGN(const std::unique_ptr<tpm::Tpm> tpm, place.open());
  TRY_ASSIGN(out.info, tpm->info());
  for (const tpm::EkKind kind : {tpm::EkKind::rsa_2048, tpm::EkKind::ecc_p256})
    out.keys.push_back(read_endorsement(*tpm, kind));
  TRY_ASSIGN(const std::vector<uint16_t> banks, tpm->pcr_banks());
  for (const uint16_t one : banks) out.banks.push_back(one == tpm_wire::kAlgSha1 ? "sha1" : tpm_wire::bank_name(one));
  if (const auto read = read_pcrs(out, *tpm); !read) out.pcr_problem = read.error().message;
  return out;
}

std::string joined(const std::vector<uint32_t>& pcrs) {
  std::string out;
  for (const uint32_t pcr : pcrs) out += (out.empty() ? "" : ",") + std::to_string(pcr);
  return out;
}

// Without what a terminal would obey: makers' texts come from the device.
std::string plain(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return text;
}

void print_pretty(const Report& report) {
  std::printf("TPM            : %s %s, firmware %s\n", report.info.manufacturer.c_str(), report.info.model.c_str(),
              report.info.firmware.c_str());
  for (const Endorsement& key : report.keys) {
    if (!key.problem.empty()) {
      std::printf("EK (%s)       : none: %s\n", key.type, key.problem.c_str());
      continue;
    }
    std::printf("EK hash (%s)  : %s\n", key.type, key.hash.c_str());
    if (key.kept_at != 0)
      std::printf("EK handle      : %s, left by the maker\n", tpm_wire::hex_text(key.kept_at).c_str());
    std::printf("EK certificate : %s", key.state.c_str());
    if (!key.certificate_problem.empty()) std::printf(": %s", plain(key.certificate_problem).c_str());
    if (!key.issuer.empty())
      std::printf(", until %s, issued by %s", TimeText(key.expires_at).rfc3339(), plain(key.issuer).c_str());
    std::printf("\n");
  }
  std::string banks;
  for (const std::string& bank : report.banks) banks += (banks.empty() ? "" : ", ") + bank;
  std::printf("PCR banks      : %s\n", banks.c_str());
  for (const auto& [pcr, value] : report.bank.values)
    std::printf("PCR %-2u         : %s\n", pcr, hex_encode(value).c_str());
  if (!report.digest.empty())
    std::printf("PCR digest     : %s (%s %s)\n", report.digest.c_str(), tpm_wire::bank_name(report.bank.hash).c_str(),
                joined(report.chosen).c_str());
  if (!report.pcr_problem.empty())
    std::printf("PCRs (%s)  : none: %s\n", tpm_wire::bank_name(report.bank.hash).c_str(),
                plain(report.pcr_problem).c_str());
}

void print_json(const Report& report) {
  yyjson_mut_doc* doc = yyjson_mut_doc_new(nullptr);
  yyjson_mut_val* root = yyjson_mut_obj(doc);
  yyjson_mut_doc_set_root(doc, root);
  const auto text = [doc](yyjson_mut_val* object, const char* name, const std::string& value) {
    yyjson_mut_obj_add_strncpy(doc, object, name, value.data(), value.size());
  };
  text(root, "manufacturer", report.info.manufacturer);
  text(root, "model", report.info.model);
  text(root, "firmware", report.info.firmware);
  yyjson_mut_val* keys = yyjson_mut_obj_add_arr(doc, root, "endorsement_keys");
  for (const Endorsement& key : report.keys) {
    if (!key.problem.empty()) continue;
    yyjson_mut_val* one = yyjson_mut_arr_add_obj(doc, keys);
    text(one, "type", key.type);
    text(one, "hash", key.hash);
    if (key.kept_at != 0) text(one, "handle", tpm_wire::hex_text(key.kept_at));
    text(one, "certificate", key.state);
    if (!key.certificate_problem.empty()) text(one, "certificate_problem", key.certificate_problem);
    if (key.issuer.empty()) continue;
    text(one, "certificate_issuer", key.issuer);
    yyjson_mut_obj_add_int(doc, one, "certificate_expires_at", key.expires_at);
  }
  yyjson_mut_val* banks = yyjson_mut_obj_add_arr(doc, root, "pcr_banks");
  for (const std::string& bank : report.banks) yyjson_mut_arr_add_strncpy(doc, banks, bank.data(), bank.size());
  text(root, "bank", tpm_wire::bank_name(report.bank.hash));
  yyjson_mut_val* pcrs = yyjson_mut_obj_add_arr(doc, root, "pcrs");
  for (const auto& [pcr, value] : report.bank.values) {
    const std::string hex = hex_encode(value);
    yyjson_mut_arr_add_strncpy(doc, pcrs, hex.data(), hex.size());
  }
  if (!report.digest.empty()) text(root, "digest", report.digest);
  if (!report.pcr_problem.empty()) text(root, "pcr_problem", report.pcr_problem);
  if (char* out = yyjson_mut_write(doc, YYJSON_WRITE_NOFLAG, nullptr)) {
    std::printf("%s\n", out);
    std::free(out);
  }
  yyjson_mut_doc_free(doc);
}

}  // namespace
}  // namespace limpet

int main(int argc, char** argv) {
  if (argc != 7) return std::fprintf(stderr, "limpet-tpm is run by \"limpet tpm info\"\n"), 1;
  const auto report = limpet::look(argv[1], argv[2], argv[3], argv[4], argv[5]);
  if (!report) return std::fprintf(stderr, "Error: %s\n", report.error().message.c_str()), 1;
  if (std::string_view(argv[6]) == "json")
    limpet::print_json(*report);
  else
    limpet::print_pretty(*report);
  return 0;
}
