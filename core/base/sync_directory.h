// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a rename, a new file or a removed one needs to outlive a power cut. Any thread; blocks on the disk.

#include <string>

namespace limpet {

std::string directory_of(const std::string& path);  // "." for a bare name

// Puts the directory that `path` stands in on disk: until then a power cut may bring back what it held before. As well
// as it goes: there are file systems that cannot.
void sync_directory_of(const std::string& path);

}  // namespace limpet
