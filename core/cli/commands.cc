// SPDX-License-Identifier: Apache-2.0
#include "cli/agent_commands.h"
#include "cli/api_commands.h"
#include "cli/authority_commands.h"
#include "cli/bundle_commands.h"
#include "cli/command.h"
#include "cli/debug_commands.h"
#include "cli/entry_commands.h"
#include "cli/federation_commands.h"
#include "cli/health_commands.h"
#include "cli/import_commands.h"
#include "cli/key_commands.h"
#include "cli/logger_commands.h"
#include "cli/manual.h"
#include "cli/plugin_commands.h"
#include "cli/run_commands.h"
#include "cli/server_commands.h"
#include "cli/tpm_commands.h"

namespace limpet::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> kAll = [] {
    std::vector<Command> all = run_commands();
    for (auto part :
         {import_commands(), key_commands(), health_commands(),
#ifdef LIMPET_SERVER  // a device with an agent alone asks no server
          entry_commands(), agent_commands(), server_commands(), authority_commands(), bundle_commands(),
          federation_commands(), enrollment_commands(),
#endif
          logger_commands(), debug_commands(), tpm_commands(), plugin_commands(), api_commands(), manual_commands()}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }();
  return kAll;
}

}  // namespace limpet::cli
