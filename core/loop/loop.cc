// SPDX-License-Identifier: Apache-2.0
#include "loop/loop.h"

#include <algorithm>

namespace limpet {

void Timer::arm(int64_t ms, void* object, void (*call)(void*)) {
  stop();
  object_ = object;
  call_ = call;
  running_ = true;
  round_ = loop_.timer_round_;
  place_ = loop_.timers_.emplace(loop_.now_ms() + std::max<int64_t>(ms, 0), this);
  if (place_ == loop_.timers_.begin()) loop_.timers_changed(loop_.next_timer());
}

void Timer::stop() {
  if (!running_) return;
  running_ = false;
  const bool was_next = place_ == loop_.timers_.begin();
  loop_.timers_.erase(place_);
  if (was_next) loop_.timers_changed(loop_.next_timer());
}

// A timer started by a callback of this round waits for the next one, or a timer of 0 ms that restarts itself would
// never let go. It stands behind all others that are due, because equal keys keep the order of insertion.
void Loop::run_timers(int64_t now_ms) {
  timer_round_++;
  while (!timers_.empty()) {
    const auto first = timers_.begin();
    Timer* timer = first->second;
    if (first->first > now_ms || timer->round_ == timer_round_) break;
    timers_.erase(first);
    timer->running_ = false;
    timer->call_(timer->object_);  // the timer may be gone afterwards
  }
  timers_changed(next_timer());
}

void Loop::keep(std::unique_ptr<LoopGuest> guest) { guests_.push_back(std::move(guest)); }

void Loop::dismiss(LoopGuest& guest) {
  const auto found =
      std::find_if(guests_.begin(), guests_.end(), [&](const auto& kept) { return kept.get() == &guest; });
  if (found == guests_.end()) return;
  post([leaving = std::move(*found)] {});
  guests_.erase(found);
}

void Loop::drop_guests() {
  while (!guests_.empty()) std::exchange(guests_, {}).clear();  // one that goes may bring another
}

}  // namespace limpet
