// SPDX-License-Identifier: Apache-2.0
#pragma once
// What must be true of a plugin's file before it is mapped, beside its permissions and its digest. Errors are
// FAILED_PRECONDITION and name the file and the next step. Any thread.

#include <string>
#include <string_view>

#include "base/result.h"

namespace limpet {

// Nobody else may put another file in its place: no directory above it is writable by every user without the sticky
// bit.
Result<void> check_place(const std::string& path);
// A shared object for this machine that exports limpet_plugin_main and nothing else.
Result<void> check_shared_object(std::string_view file, std::string_view path);

}  // namespace limpet
