// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/settings.h"

#include "kit/secret_file.h"

namespace limpet::tpm {
namespace {

constexpr size_t kMaxAuthBytes = 64;  // TPM2B_AUTH: the largest digest

}  // namespace

Result<SecretBytes> read_auth_file(const std::string& path) {
  if (path.empty()) return SecretBytes();
  TRY_ASSIGN_WITHIN(path, kit::SecretFile file, kit::read_secret_file(path, kMaxAuthBytes));
  if (file.text.size() > kMaxAuthBytes)
    return fail(Code::failed_precondition, path + ": a TPM password has at most 64 bytes");
  return std::move(file.text);
}

DeviceKeys read_keys(kit::ConfigReader& reader, bool with_endorsement) {
  DeviceKeys out;
  out.device = reader.text("device");
  out.owner_auth_file = reader.text("owner_auth_file");
  if (with_endorsement) out.endorsement_auth_file = reader.text("endorsement_auth_file");
  return out;
}

Result<DeviceSettings> read_settings(const DeviceKeys& keys) {
  DeviceSettings out;
  TRY_ASSIGN_WITHIN("device", out.address, parse_address(keys.device));
  TRY_ASSIGN_WITHIN("owner_auth_file", out.owner_auth, read_auth_file(keys.owner_auth_file));
  TRY_ASSIGN_WITHIN("endorsement_auth_file", out.endorsement_auth, read_auth_file(keys.endorsement_auth_file));
  return out;
}

Result<std::unique_ptr<Tpm>> open_for(const Device& device, const limpet_host* host, const limpet_op* op) {
  const int64_t left = host->time_left_ms(host, op);
  if (left <= 0) return fail(Code::deadline_exceeded, "the TPM was busy with other calls for too long");
  return device.open(left - left / 4);
}

}  // namespace limpet::tpm
