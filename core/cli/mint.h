// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands `x509 mint` (a key made here, its certificate from the server) and `jwt mint`.

#include "cli/command.h"

namespace limpet::cli {

Command x509_mint_command();
Command jwt_mint_command();

}  // namespace limpet::cli
