// SPDX-License-Identifier: Apache-2.0
#pragma once
// Tells when a descriptor that somebody else owns can be read or written. Level-triggered. The descriptor is closed
// after this is destroyed, by its owner. Loop thread only.

#include <functional>
#include <memory>

#include "base/result.h"
#include "loop/uv_loop.h"

struct uv_poll_s;

namespace limpet {

class FdWatch {
 public:
  using Ready = std::move_only_function<void(bool readable, bool writable)>;  // may destroy the watch
  // A plain file cannot be watched: INVALID_ARGUMENT.
  static Result<std::unique_ptr<FdWatch>> open(UvLoop& loop, int fd, Ready ready);
  ~FdWatch();
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;

  void want(bool readable, bool writable);

 private:
  struct Handle;
  explicit FdWatch(Ready ready);
  std::shared_ptr<Ready> ready_;  // owners: this, and the callback while it runs
  std::unique_ptr<Handle> handle_;
};

}  // namespace limpet
