// SPDX-License-Identifier: Apache-2.0
#pragma once
// Turns a SPIRE configuration (server.conf, agent.conf: HCL or JSON) into a Limpet configuration in TOML. Which keys
// have a counterpart is asked of the table of keys; what has none is listed with its line and the reason. Pure.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limpet {

struct ImportNote {
  uint32_t line = 0;
  std::string key;  // "server.profiling_port", "plugins.DataStore.sql"
  std::string reason;
};

// Keys that SPIRE does not know either, by the section it names in its log: "top-level", "server", "agent".
struct UnknownKeys {
  std::string section;
  std::string keys;  // "a,b", in order
};

struct ImportedConfig {
  std::string toml;
  std::vector<ImportNote> notes;     // by line
  std::vector<UnknownKeys> unknown;  // SPIRE does not start with these
};

// INVALID_ARGUMENT "line 3: ..." when it is neither HCL nor JSON, or has neither a server nor an agent block.
Result<ImportedConfig> import_spire(std::string_view text);

// Whether a text is one of Limpet's own files and not one to import: it parses as TOML and has no table `plugins`. No
// file can be both: SPIRE needs the block `plugins`, which is an unknown key here, and a block or a JSON object is not
// TOML. What parses as neither is judged as TOML when it has a line that begins with "[server" or "[agent" or
// "[[plugin", which HCL cannot have.
bool is_limpet_config(std::string_view text);

}  // namespace limpet
