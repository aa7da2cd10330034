// SPDX-License-Identifier: Apache-2.0
// Sealer "tpm": a fresh data key for each secret, itself sealed in the TPM, if wished under a policy on PCRs. A TPM
// seals at most 128 bytes; the data key is 32, the secret is under AES-256-GCM. BLOCKING and SERIAL: see
// key_manager_tpm2.
#include <limpet_plugin.h>

#include <memory>

#include "crypto/seal.h"
#include "kit_tpm/settings.h"
#include "sealer_tpm/blob.h"

namespace {

using limpet::Bytes;
using limpet::BytesView;
using limpet::Code;
using limpet::Error;
using limpet::fail;
using limpet::Result;
using limpet::SecretBytes;
using limpet::sealer_tpm::Blob;
using limpet::tpm::Device;
using limpet::tpm::Object;
using limpet::tpm::PcrSelection;
using limpet::tpm::Tpm;

constexpr size_t kDataKeyBytes = 32;
constexpr size_t kMaxPlainBytes = 4096;
constexpr size_t kMaxContextBytes = 64;
constexpr int64_t kLastPcr = 23;

struct Sealer {
  const limpet_host* host;
  std::unique_ptr<Device> device;
  PcrSelection pcrs;
};
Sealer& self_of(limpet_instance* self) { return *reinterpret_cast<Sealer*>(self); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Sealer{host, nullptr, {}});
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete &self_of(self); }

// ---- configuration: the TPM is not touched, it may come later ----

Result<uint16_t> read_bank(const std::string& name) {
  if (name.empty() || name == "sha256") return limpet::tpm::kAlgSha256;
  if (name == "sha384") return limpet::tpm::kAlgSha384;
  if (name == "sha1") return limpet::tpm::kAlgSha1;
  return fail(Code::invalid_argument, "pcr_bank is sha256, sha384 or sha1, not \"" + name + "\"");
}

Result<void> apply(Sealer& self, const limpet_config& config) {
  limpet::kit::ConfigReader reader(limpet::kit::view(config.json));
  const limpet::tpm::DeviceKeys keys = limpet::tpm::read_keys(reader, false);
  const std::vector<int64_t> indices = reader.numbers("pcrs");
  const std::string bank = reader.text("pcr_bank");
  TRY(reader.finish());
  PcrSelection pcrs;
  TRY_ASSIGN(pcrs.bank, read_bank(bank));
  for (const int64_t index : indices) {
    if (index < 0 || index > kLastPcr) return fail(Code::invalid_argument, "pcrs: a PCR has a number from 0 to 23");
    pcrs.mask |= 1u << index;
  }
  TRY_ASSIGN(auto settings, limpet::tpm::read_settings(keys));
  if (config.dry_run != 0) return {};
  self.device = std::make_unique<Device>(std::move(settings));
  self.pcrs = pcrs;
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet::kit::end(op, done, apply(self_of(self), *config));
}

// ---- sealing ----

Result<Object> root_of(Tpm& tpm) {
  TRY_ASSIGN_WITHIN("storage root key", Object root,
                    tpm.create_primary(limpet::tpm::Hierarchy::owner, limpet::tpm::srk_ecc()));
  return root;
}

Result<void> check_sizes(BytesView secret, size_t most, BytesView context) {
  if (secret.empty() || secret.size() > most || context.size() > kMaxContextBytes) {
    return fail(Code::invalid_argument, "a secret of 1 to 4096 bytes with a context of at most 64 is sealed");
  }
  return {};
}

Result<Bytes> seal(Sealer& self, const limpet_op* op, BytesView plain, BytesView context) {
  TRY(check_sizes(plain, kMaxPlainBytes, context));
  TRY_ASSIGN(const auto tpm, limpet::tpm::open_for(*self.device, self.host, op));
  Blob blob;
  blob.pcrs = self.pcrs;
  Bytes policy;
  if (self.pcrs.mask != 0) {
    TRY_ASSIGN(blob.pcr_values, tpm->read_pcrs(self.pcrs));
    TRY_ASSIGN(policy, tpm->pcr_policy(self.pcrs, blob.pcr_values));
  }
  SecretBytes key(kDataKeyBytes);
  limpet::random_bytes(key.data(), key.size());
  TRY_ASSIGN(const Object root, root_of(*tpm));
  TRY_ASSIGN(auto made, tpm->create(root, limpet::tpm::sealed_data(policy), {}, key.view()));
  blob.root_name = root.name();
  blob.data_key = std::move(made.blob);
  TRY_ASSIGN(blob.ciphertext, limpet::seal(key, context, plain));
  return encode_blob(blob);
}

// ---- opening: FAILED_PRECONDITION only for what can never be opened. An agent then sets its cache aside ----

// What failed says nothing of the blob.
std::unexpected<Error> try_again(Error why) {
  if (why.code == Code::failed_precondition || why.code == Code::not_found) why.code = Code::unavailable;
  return fail(std::move(why));
}

// TPM2_Load's parameters are the blob's two halves; a TPM may leave out which one it means.
bool judges_blob(uint32_t rc) {
  using namespace limpet::tpm;
  if (parameter_of(rc) == 1 || parameter_of(rc) == 2) return true;
  for (const uint32_t code : {kRcSize, kRcType, kRcAttributes, kRcBinding, kRcSensitive, kRcIntegrity}) {
    if (rc == code) return true;
  }
  return false;
}

Result<Object> load(Tpm& tpm, const Object& root, const Blob& blob) {
  constexpr const char* kOther =
      "it was sealed by another TPM, or this one was cleared since; only the old TPM can open it";
  if (root.name() != blob.root_name) return fail(Code::failed_precondition, kOther);
  auto loaded = tpm.load(root, blob.data_key);
  if (loaded) return loaded;
  if (limpet::tpm::base_code(tpm.last_rc()) == limpet::tpm::kRcIntegrity)
    return fail(Code::failed_precondition, kOther);
  const Code code = loaded.error().code;
  const bool damaged = code == Code::invalid_argument ||  // it was not sent: no TPM would take it
                       (code != Code::unavailable && judges_blob(tpm.last_rc()));
  if (!damaged) return try_again(std::move(loaded).error());
  return fail(Code::failed_precondition, "the sealed blob is damaged: " + loaded.error().message);
}

// Which PCRs are not what they were, for the operator.
std::string changed_pcrs(Tpm& tpm, const Blob& blob) {
  const auto now = tpm.read_pcrs(blob.pcrs);
  if (!now || now->size() != blob.pcr_values.size()) return "the PCRs have changed since it was sealed";
  std::string list;
  size_t at = 0;
  for (unsigned pcr = 0; pcr <= kLastPcr; ++pcr) {
    if ((blob.pcrs.mask >> pcr & 1) == 0) continue;
    if ((*now)[at] != blob.pcr_values[at]) list += (list.empty() ? "" : ", ") + std::to_string(pcr);
    ++at;
  }
  if (list.empty()) return "a PCR was extended and reset since it was sealed";
  return "PCR " + list +
         " changed since it was sealed: another firmware, boot loader, kernel or configuration was started";
}

// The TPM says that the PCRs are not those of the policy.
bool blames_pcrs(const Tpm& tpm, const Blob& blob) {
  const uint32_t rc = limpet::tpm::base_code(tpm.last_rc());
  const std::string_view command = tpm.last_command();
  return blob.pcrs.mask != 0 && (command == "TPM2_PolicyPCR" || command == "TPM2_Unseal") &&
         (rc == limpet::tpm::kRcPolicyFail || rc == limpet::tpm::kRcValue || rc == limpet::tpm::kRcPcr);
}

Result<SecretBytes> unseal(Sealer& self, const limpet_op* op, BytesView text, BytesView context) {
  TRY(check_sizes(text, 65'536, context));
  TRY_ASSIGN(const Blob blob, limpet::sealer_tpm::decode_blob(text));
  auto tpm = limpet::tpm::open_for(*self.device, self.host, op);
  if (!tpm) return try_again(std::move(tpm).error());
  const auto root = root_of(**tpm);
  if (!root) return try_again(root.error());
  TRY_ASSIGN(const Object object, load(**tpm, *root, blob));
  auto key = (*tpm)->unseal(object, *root, blob.pcrs);
  if (!key && blames_pcrs(**tpm, blob)) return fail(Code::failed_precondition, changed_pcrs(**tpm, blob));
  if (!key) return try_again(std::move(key).error());
  if (key->size() != kDataKeyBytes) return fail(Code::failed_precondition, "the sealed blob is damaged");
  return limpet::unseal(*key, context, blob.ciphertext);
}

// ---- the table ----

void on_seal(limpet_instance* self, limpet_op* op, limpet_bytes plain, limpet_bytes context, limpet_bytes_done done) {
  const auto blob = seal(self_of(self), op, limpet::kit::view(plain), limpet::kit::view(context));
  if (blob) return done(op, nullptr, limpet::kit::lend(*blob));
  const limpet_status status = limpet::kit::status_of(blob.error());
  done(op, &status, {});
}

void on_unseal(limpet_instance* self, limpet_op* op, limpet_bytes blob, limpet_bytes context, limpet_bytes_done done) {
  const auto plain = unseal(self_of(self), op, limpet::kit::view(blob), limpet::kit::view(context));
  if (plain) return done(op, nullptr, limpet::kit::lend(plain->view()));
  const limpet_status status = limpet::kit::status_of(plain.error());
  done(op, &status, {});
}

constexpr limpet_sealer kTable = {sizeof(limpet_sealer), 0, on_seal, on_unseal};
constexpr limpet_component kComponent = {sizeof(limpet_component),
                                         LIMPET_BLOCKING | LIMPET_SERIAL,
                                         LIMPET_SEALER,
                                         "tpm",
                                         create,
                                         destroy,
                                         configure,
                                         nullptr,
                                         &kTable};
constexpr const limpet_component* kComponents[] = {&kComponent, nullptr};
constexpr limpet_plugin kPlugin = {sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.sealer.tpm",
                                   LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
