// SPDX-License-Identifier: Apache-2.0
#pragma once
// Registration entries as commands take them: from flags, or from the JSON file of -data ({"entries":[...]}, SPIRE's
// shape: spiffe_id and parent_id as texts). IDs, types and key names are checked here, the rest is the server's to
// judge.

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/command.h"
#include "proto/spire_types.pb.h"
#include "wire/message.h"

namespace limpet::cli {

using EntryMessage = wire::Message<spire_api_types_Entry>;

// One entry from the flags of create and update. INVALID_ARGUMENT with the texts SPIRE's commands print.
Result<EntryMessage> entry_from_flags(const Flags& flags);
// Every entry of the file. NOT_FOUND "open X: no such file or directory"; INVALID_ARGUMENT names file, entry and key:
// unknown keys and values of another type are refused.
Result<std::vector<EntryMessage>> entries_from_file(const std::string& path);

Result<void> set_id(bool& present, spire_api_types_SPIFFEID& id, std::string_view text);

}  // namespace limpet::cli
