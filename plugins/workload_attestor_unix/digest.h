// SPDX-License-Identifier: Apache-2.0
#pragma once
// SHA-256 of executables, remembered by device, inode, size and times. hash() reads the whole file: the plugin's thread
// only. recall() is cheap; any thread.

#include <sys/stat.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>

#include "base/result.h"

namespace limpet::workload_attestor_unix {

class Digests {
 public:
  // True and the hex digest when this very content was hashed before.
  bool recall(const struct stat& file, std::string& out);
  // Reads `fd` from its start. CANCELLED once `cancelled` is set.
  Result<std::string> hash(int fd, const std::atomic<bool>& cancelled);

 private:
  struct Identity {
    dev_t device;
    ino_t inode;
    off_t size;
    int64_t modified_ns;
    int64_t changed_ns;
    auto operator<=>(const Identity&) const = default;
  };
  static Identity identity_of(const struct stat& file);
  std::mutex mutex_;
  std::map<Identity, std::string> known_;
};

}  // namespace limpet::workload_attestor_unix
