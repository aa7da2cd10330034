// SPDX-License-Identifier: Apache-2.0
#pragma once
// One child process of a shim: started, spoken to, mourned. What it says is cut into frames and handed on; that it may
// be hostile is the listener's affair, except here: it gets no more than its share of a turn of the loop, a frame that
// cannot be is its end, and unsent frames are bounded. Loop thread only.

#include <sys/types.h>

#include <deque>
#include <memory>
#include <string>

#include "loop/uv_watch.h"
#include "plugin/shim_wire.h"

namespace limpet::shim {

// Starts `program` with the other end of a socket as descriptor 3 and `plugin_fd` as 4; its standard error is ours
// until it is in its sandbox, so that what the dynamic linker says of it is seen. UNAVAILABLE, naming the program.
struct Started {
  pid_t pid = -1;
  int fd = -1;  // not blocking
};
Result<Started> start_process(const std::string& program, int plugin_fd);

class ShimChild {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_frame(const Frame& frame) = 0;  // may call kill(), not destroy the child
    virtual void on_end(std::string why) = 0;       // once, the process is gone; may destroy the child
  };
  static Result<std::unique_ptr<ShimChild>> start(UvLoop& loop, const std::string& program, int plugin_fd,
                                                  Listener& listener);
  // The process gets a little time to end by itself; nobody waits for it but the end of the loop.
  ~ShimChild();
  ShimChild(const ShimChild&) = delete;
  ShimChild& operator=(const ShimChild&) = delete;

  // In order. The descriptor is copied where it has to wait. A child that lets too much of it wait is killed.
  void send(Bytes frame, int pass_fd = -1);
  [[nodiscard]] size_t unsent() const { return unsent_; }
  // Ends it at once; `why` comes back in on_end().
  void kill(std::string why);
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  struct Waiting {
    Bytes frame;
    size_t at = 0;
    int fd = -1;
  };
  ShimChild(UvLoop& loop, Started started, Listener& listener);
  void on_ready(bool readable, bool writable);
  void read();
  void flush();
  bool write_some(Waiting& frame);  // false: it would block, or the child does not read any more
  void stop_writing();
  void drop_waiting();
  void hang_up();
  void bury();

  UvLoop& loop_;
  Listener& listener_;
  pid_t pid_;
  int fd_;
  std::unique_ptr<FdWatch> watch_;
  FrameSplitter splitter_;
  std::deque<Waiting> waiting_;
  size_t unsent_ = 0;
  bool deaf_ = false;  // it will read nothing more: it is killed, what it said before is still heard
  std::string why_;
  Timer bury_timer_;
  int tries_ = 0;
};

}  // namespace limpet::shim
