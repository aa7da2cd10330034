// SPDX-License-Identifier: Apache-2.0
#pragma once
// User and group names with a memory. Asking the system may wait for a directory server, so it happens on the plugin's
// thread only; the memory is asked from any thread.

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace limpet::workload_attestor_unix {

enum class NameKind : uint8_t { user, group };

class Names {
 public:
  // False: not remembered, resolve() first. An empty `out`: the system knows no name.
  bool recall(NameKind kind, uint32_t id, std::string& out);
  // Asks the system unless remembered. May block.
  std::string resolve(NameKind kind, uint32_t id);

 private:
  struct Known {
    std::string name;
    int64_t until_s = 0;  // monotonic
  };
  std::mutex mutex_;
  std::map<std::pair<NameKind, uint32_t>, Known> known_;
};

}  // namespace limpet::workload_attestor_unix
