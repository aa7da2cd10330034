// SPDX-License-Identifier: Apache-2.0
#pragma once
// What this process holds right now.

#include <cstddef>
#include <string>

namespace limpet::check {

size_t open_descriptors();
size_t threads();
bool has_children();  // processes, ended ones included until somebody asked for them
// Bytes of the heap in use; under AddressSanitizer its own count.
size_t allocated_bytes();
std::string signal_dispositions();  // every signal's, as text to compare
std::string read_whole(const std::string& path);
std::string list_tree(const std::string& directory);  // names, sizes, times and content's hash, as text to compare

}  // namespace limpet::check
