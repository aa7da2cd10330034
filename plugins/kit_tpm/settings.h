// SPDX-License-Identifier: Apache-2.0
#pragma once
// The configuration keys that every TPM plugin takes: device, owner_auth_file, endorsement_auth_file.

#include "kit/kit.h"
#include "kit_tpm/device.h"

namespace limpet::tpm {

struct DeviceKeys {
  std::string device;
  std::string owner_auth_file;
  std::string endorsement_auth_file;
  bool operator==(const DeviceKeys&) const = default;
};

// A password from a file that not everybody may read; its last newline is no part of it. "": no file, an empty one.
// FAILED_PRECONDITION.
Result<SecretBytes> read_auth_file(const std::string& path);
// Asks the reader for the keys, so call it before finish(); `with_endorsement` where the plugin needs that hierarchy.
DeviceKeys read_keys(kit::ConfigReader& reader, bool with_endorsement);
// Parses the address and reads the password files; the TPM itself is not touched. INVALID_ARGUMENT,
// FAILED_PRECONDITION.
Result<DeviceSettings> read_settings(const DeviceKeys& keys);
// Opens the TPM for one call of the host, with three quarters of the time it has left: a silent TPM is named before the
// host gives up on us. DEADLINE_EXCEEDED: there is none left.
Result<std::unique_ptr<Tpm>> open_for(const Device& device, const limpet_host* host, const limpet_op* op);

}  // namespace limpet::tpm
