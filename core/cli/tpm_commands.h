// SPDX-License-Identifier: Apache-2.0
#pragma once
// tpm enroll, list and remove: the devices that the node attestor "tpm" lets in, by the hash of their endorsement key;
// and tpm info, which another program prints: this one needs no TPM library.

#include <vector>

#include "cli/command.h"

namespace limpet::cli {

std::vector<Command> tpm_commands();         // of this machine: info
std::vector<Command> enrollment_commands();  // of a server: enroll, list, remove

}  // namespace limpet::cli
