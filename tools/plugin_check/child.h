// SPDX-License-Identifier: Apache-2.0
#pragma once
// A child process that runs the plugin's code: bounded in time, and in what it may say. The plugin shares the child,
// and so all that comes from it may be the plugin's own words. One child is one run; main thread.

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

#include "plugin_check/check.h"

namespace limpet::check {

struct Child {
  pid_t pid = -1;
  int answer = -1;  // the pipe's end
  int output = -1;  // a memfd
  Clock::time_point began = {};
};

struct Ending {
  std::string said;    // what the work returned; empty: it did not come to that, or the process did not end
  Outcome silent;      // what it means that nothing was said
  std::string output;  // what the process wrote, its end
  int64_t took_ms = 0;
};

// Forks; the child runs `work` and says what it returned, cut at 32 KiB. Its output goes to a file in memory.
void spawn(Child& child, const std::function<std::string()>& work);
// Collects a child that has ended, or, with its end, one that has had its time. Nothing: it runs. Whoever else holds
// the pipe, as a process that the plugin forked does, is not waited for.
std::optional<Ending> collect(Child& child, int64_t limit_ms);

}  // namespace limpet::check
