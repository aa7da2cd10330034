// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reads an LMDB 0.9 data file page by page without LMDB and without trusting it: file size against the last page
// number, every page reached once and in its place, nodes inside their page and in key order, free pages not in use,
// entry counts, and the checksum of every value. Reads only, never crashes; for the check before a store is opened.

#include <string>

#include "store/check.h"

namespace limpet {

Verdict walk_pages(const std::string& path);

}  // namespace limpet
