// SPDX-License-Identifier: Apache-2.0
#pragma once
// What limpet.poll/1 does for one instance, by the rules of limpet_plugin.h. Loop thread.

#include <limpet_plugin.h>

#include <map>
#include <memory>

namespace limpet {

class UvLoop;

class PollWatches {
 public:
  using Fn = void (*)(void* arg, int32_t fd, uint32_t events);
  PollWatches();
  ~PollWatches();
  PollWatches(const PollWatches&) = delete;
  PollWatches& operator=(const PollWatches&) = delete;

  // Replaces the descriptor's watch; on failure nothing is watched. `fn` may end every watch, and `owner`, which is
  // kept until it returns.
  int32_t watch(UvLoop& loop, int32_t fd, uint32_t events, Fn fn, void* arg, std::weak_ptr<void> owner = {});
  void unwatch(int32_t fd);
  void clear();

 private:
  struct Watch;
  std::map<int32_t, std::unique_ptr<Watch>> watches_;  // by the plugin's number of the descriptor
};

}  // namespace limpet
