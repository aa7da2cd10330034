// SPDX-License-Identifier: Apache-2.0
#include "server/rate_limits.h"

#include <algorithm>
#include <cmath>

namespace limpet::server {
namespace {
constexpr int64_t kSweepMs = 60'000;
constexpr size_t kWaiters = 8192;  // per limiter: every agent of a large site behind one address fits
}  // namespace

struct RateLimiter::Waiter {
  Waiter(RateLimiter& limiter, Done<void> waiting) : owner(limiter), done(std::move(waiting)), timer(limiter.loop_) {}
  void on_timer() { owner.on_waited(this); }
  RateLimiter& owner;
  Done<void> done;
  Timer timer;
  std::list<std::unique_ptr<Waiter>>::iterator place;
};

RateLimiter::RateLimiter(Loop& loop, int64_t per_second) : loop_(loop), rate_(static_cast<double>(per_second)) {}
RateLimiter::~RateLimiter() = default;

void RateLimiter::wait(const std::string& ip, size_t count, int64_t time_left_ms, Done<void> done) {
  int64_t delay = 0;
  if (rate_ > 0 && !ip.empty()) {
    forget_stale();
    if (static_cast<double>(count) > rate_) {
      return refuse(std::move(done), "rate (" + std::to_string(count) + ") exceeds burst size (" +
                                         std::to_string(static_cast<int64_t>(rate_)) + ")");
    }
    if (waiters_.size() >= kWaiters) return refuse(std::move(done), "too many calls wait for their rate limit");
    delay = take(ip, count, time_left_ms);
    if (delay < 0) {
      return refuse(std::move(done), "rate: Wait(n=" + std::to_string(count) + ") would exceed context deadline");
    }
  }
  Waiter& waiter = *waiters_.emplace_back(std::make_unique<Waiter>(*this, std::move(done)));
  waiter.place = std::prev(waiters_.end());
  waiter.timer.start<&Waiter::on_timer>(delay, &waiter);
}

void RateLimiter::refuse(Done<void> done, std::string why) {
  loop_.post([held = std::move(done), why = std::move(why)]() mutable {
    held(fail(Code::resource_exhausted, std::move(why)));
  });
}

int64_t RateLimiter::take(const std::string& ip, size_t count, int64_t time_left_ms) {
  int64_t now = loop_.now_ms();
  auto [it, fresh] = buckets_.try_emplace(ip);
  Bucket& bucket = it->second;
  if (fresh) bucket = {rate_, now};
  double gained = static_cast<double>(now - bucket.updated_ms) * rate_ / 1000.0;
  bucket.tokens = std::min(rate_, bucket.tokens + gained);
  bucket.updated_ms = now;
  double left = bucket.tokens - static_cast<double>(count);
  int64_t delay = left >= 0 ? 0 : static_cast<int64_t>(std::ceil(-left * 1000.0 / rate_));
  if (delay > time_left_ms) return -1;
  bucket.tokens = left;
  return delay;
}

// A bucket that has filled up again says nothing: dropping it bounds memory by the callers of the last minute or so.
// Waiters whose call is gone leave as well.
void RateLimiter::forget_stale() {
  int64_t now = loop_.now_ms();
  if (now < next_sweep_ms_) return;
  next_sweep_ms_ = now + kSweepMs;
  std::erase_if(buckets_, [&](const auto& item) {
    double gained = static_cast<double>(now - item.second.updated_ms) * rate_ / 1000.0;
    return item.second.tokens + gained >= rate_;
  });
  std::erase_if(waiters_, [](const auto& waiter) { return !waiter->done.wanted(); });
}

void RateLimiter::on_waited(Waiter* waiter) {
  std::unique_ptr<Waiter> held = std::move(*waiter->place);
  waiters_.erase(held->place);
  Done<void> done = std::move(held->done);
  held.reset();
  done({});
}

}  // namespace limpet::server
