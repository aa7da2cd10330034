// SPDX-License-Identifier: Apache-2.0
#pragma once
// What SPIRE knows and Limpet may not: the reasons an import gives. Asked only when the table of keys has no
// counterpart, so a key that is added there needs no change here. Constant data.

#include <span>
#include <string_view>

namespace limpet {

struct SpireKey {
  std::string_view role;   // "server", "agent" or empty: both
  std::string_view table;  // "", "experimental"; "*" as name: the whole table
  std::string_view name;
  std::string_view reason;
};
std::span<const SpireKey> spire_keys();

struct SpirePlugin {
  std::string_view type;
  std::string_view name;  // empty: every one of the type
  std::string_view reason;
};
std::span<const SpirePlugin> spire_plugins();

// What is part of Limpet, but not of the binary.
struct LoadablePlugin {
  std::string_view type;
  std::string_view name;
  std::string_view file;
};
std::span<const LoadablePlugin> loadable_plugins();

}  // namespace limpet
