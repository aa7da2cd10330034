// SPDX-License-Identifier: Apache-2.0
#pragma once
// The system's reason for a failure, worded as SPIRE's users know it. Any thread.

#include <string>

namespace limpet {

// "connection refused": strerror's text with a small first letter, as Go prints it. Takes errno or a libuv status.
std::string errno_text(int error);

}  // namespace limpet
