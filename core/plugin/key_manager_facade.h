// SPDX-License-Identifier: Apache-2.0
#pragma once
// The facade over the key manager table. Owned by the Catalog. Loop thread only, but for the blocking signers it makes.
// Errors carry the prefix "keymanager(<name>): ".

#include <memory>

#include "plugin/instance.h"
#include "plugin/key_manager.h"

namespace limpet {

inline constexpr std::string_view kKeyManagerPrefix = "keymanager";

// The instance must be configured already.
std::unique_ptr<KeyManager> make_key_manager(std::shared_ptr<Instance> instance);

}  // namespace limpet
