// SPDX-License-Identifier: Apache-2.0
#pragma once
// Private host keys in files: PEM, or OpenSSH's own format (PROTOCOL.key), not encrypted. Reads a file: worker.

#include <string>

#include "crypto/key.h"

namespace limpet::sshpop {

Result<PrivateKey> read_host_key(const std::string& path);
Result<PrivateKey> parse_openssh_key(BytesView blob);  // what stands in the PEM block "OPENSSH PRIVATE KEY"

}  // namespace limpet::sshpop
