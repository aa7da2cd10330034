// SPDX-License-Identifier: Apache-2.0
#pragma once
// Certificates and private keys in PEM files. They block: call them on a BLOCKING plugin's thread. Errors name the
// file; FAILED_PRECONDITION.

#include <string>
#include <vector>

#include "crypto/x509.h"

namespace limpet::kit {

Result<std::string> read_file(const std::string& path, size_t max_bytes);
Result<std::vector<Certificate>> read_certificates(const std::string& path);  // one at least
Result<PrivateKey> read_private_key(const std::string& path);                 // PKCS#8, SEC1 or PKCS#1, not encrypted

}  // namespace limpet::kit
