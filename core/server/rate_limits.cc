// SPDX-License-Identifier: Apache-2.0
#include "server/rate_limits.h"

#include <algorithm>
#include <cmath>

namespace limpet::server {
namespace {
constexpr int64_t kSweepMs = 60'000;
constexpr int64_t kLookMs = 50;         // between looks for those who left: each goes through all waiters
constexpr size_t kWaiters = 8192;       // per limiter
constexpr size_t kWaitersPerIp = 1024;  // a large site behind one address; nobody fills the limiter alone
}  // namespace

struct RateLimiter::Waiter {
  Waiter(RateLimiter& limiter, std::string who, size_t tokens, Done<void> waiting)
      : owner(limiter), ip(std::move(who)), count(tokens), done(std::move(waiting)), timer(limiter.loop_) {}
  void on_timer() { owner.on_waited(this); }
  RateLimiter& owner;
  std::string ip;
  size_t count;
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
    if (loop_.now_ms() >= next_look_ms_ || crowded(ip)) forget_gone();
    if (crowded(ip)) return refuse(std::move(done), "too many calls wait for their rate limit");
    delay = take(ip, count, time_left_ms);
    if (delay < 0) {
      return refuse(std::move(done), "rate: Wait(n=" + std::to_string(count) + ") would exceed context deadline");
    }
  }
  Waiter& waiter = *waiters_.emplace_back(std::make_unique<Waiter>(*this, ip, count, std::move(done)));
  if (const auto bucket = buckets_.find(ip); bucket != buckets_.end()) bucket->second.waiting++;
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
  bucket.tokens = fresh ? rate_ : bucket.filled(rate_, now);
  bucket.updated_ms = now;
  double left = bucket.tokens - static_cast<double>(count);
  int64_t delay = left >= 0 ? 0 : static_cast<int64_t>(std::ceil(-left * 1000.0 / rate_));
  if (delay > time_left_ms) return -1;
  bucket.tokens = left;
  return delay;
}

bool RateLimiter::crowded(const std::string& ip) const {
  const auto bucket = buckets_.find(ip);
  return waiters_.size() >= kWaiters || (bucket != buckets_.end() && bucket->second.waiting >= kWaitersPerIp);
}

// Waiters whose call is gone leave, and their tokens are there again for those who come.
void RateLimiter::forget_gone() {
  next_look_ms_ = loop_.now_ms() + kLookMs;
  for (auto place = waiters_.begin(); place != waiters_.end();) {
    const Waiter& waiter = **place;
    if (waiter.done.wanted()) {
      ++place;
      continue;
    }
    give_back(waiter);
    place = waiters_.erase(place);
  }
}

void RateLimiter::give_back(const Waiter& waiter) {
  const auto bucket = buckets_.find(waiter.ip);
  if (bucket == buckets_.end()) return;
  bucket->second.waiting--;
  if (!waiter.done.wanted())
    bucket->second.tokens = std::min(rate_, bucket->second.tokens + static_cast<double>(waiter.count));
}

// A bucket that has filled up again says nothing: dropping it bounds memory by the callers of the last minute or so.
void RateLimiter::forget_stale() {
  int64_t now = loop_.now_ms();
  if (now < next_sweep_ms_) return;
  next_sweep_ms_ = now + kSweepMs;
  forget_gone();
  std::erase_if(buckets_,
                [&](const auto& item) { return item.second.waiting == 0 && item.second.filled(rate_, now) >= rate_; });
}

void RateLimiter::on_waited(Waiter* waiter) {
  std::unique_ptr<Waiter> held = std::move(*waiter->place);
  waiters_.erase(held->place);
  give_back(*held);
  Done<void> done = std::move(held->done);
  held.reset();
  done({});
}

}  // namespace limpet::server
