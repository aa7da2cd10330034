// SPDX-License-Identifier: Apache-2.0
#pragma once
// The child's end of the socket. Frames are written whole, by any thread; they wait for the daemon to read, which is
// how it slows a child down. Reading is the main thread's.

#include <deque>
#include <mutex>

#include "plugin/shim_wire.h"

namespace limpet::shim {

class Link {
 public:
  explicit Link(int fd) : fd_(fd) {}
  [[nodiscard]] int fd() const { return fd_; }

  void send(FrameWriter&& frame);  // [any]; the process ends when the daemon is gone
  // What has come, waiting for it when `wait`. False: the daemon has hung up, or talks nonsense.
  bool receive(bool wait);
  std::optional<Frame> next() { return splitter_.next(); }
  // The oldest descriptor that came and was not taken; -1: none.
  int take_fd();

 private:
  const int fd_;
  std::mutex writing_;
  FrameSplitter splitter_;
  std::deque<int> fds_;
};

}  // namespace limpet::shim
