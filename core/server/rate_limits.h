// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rate limits of the TCP endpoint (wire notes 2.5): token buckets per source address. A caller is delayed, not
// rejected, unless it asks for more than a bucket ever holds or would wait beyond its deadline. Owned by the server;
// loop thread.

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "base/limits.h"
#include "base/token_bucket.h"
#include "loop/loop.h"

namespace limpet::server {

class RateLimiter {
 public:
  // Burst = rate. 0: no limit.
  RateLimiter(Loop& loop, int64_t per_second);
  ~RateLimiter();
  RateLimiter(const RateLimiter&) = delete;
  RateLimiter& operator=(const RateLimiter&) = delete;

  // Answers when `count` tokens of `ip` are there; an empty `ip` (the local socket) is never limited. `time_left_ms` is
  // the call's. RESOURCE_EXHAUSTED "rate (n) exceeds burst size (m)" or "rate: Wait(n=n) would exceed context
  // deadline", or too many wait. Who gives up while he waits gives his tokens back.
  void wait(const std::string& ip, size_t count, int64_t time_left_ms, Done<void> done);
  void set_rate(int64_t per_second) { rate_ = static_cast<double>(per_second); }
  // Buckets in memory: full ones are forgotten.
  [[nodiscard]] size_t buckets() const { return buckets_.size(); }

 private:
  struct Bucket : TokenBucket {
    size_t waiting = 0;  // its waiters
  };
  struct Waiter;
  // Milliseconds until the tokens are there; they are taken at once. -1: beyond the deadline, nothing was taken.
  int64_t take(const std::string& ip, size_t count, int64_t time_left_ms);
  void forget_stale();
  void forget_gone();
  void give_back(const Waiter& waiter);
  [[nodiscard]] bool crowded(const std::string& ip) const;
  void refuse(Done<void> done, std::string why);
  void on_waited(Waiter* waiter);

  Loop& loop_;
  double rate_;
  std::map<std::string, Bucket> buckets_;
  int64_t next_sweep_ms_ = 0;
  int64_t next_look_ms_ = 0;
  std::list<std::unique_ptr<Waiter>> waiters_;
};

// The buckets of the server's methods. The signing calls of X.509 share one.
struct RateLimits {
  RateLimits(Loop& loop, bool attestation, bool signing)
      : attest(loop, 0), sign_x509(loop, 0), sign_jwt(loop, 0), publish_jwt(loop, 500), post_status(loop, 10) {
    set(attestation, signing);
  }
  void set(bool attestation, bool signing) {
    attest.set_rate(attestation ? 1 : 0);
    sign_x509.set_rate(signing ? 500 : 0);
    sign_jwt.set_rate(signing ? 500 : 0);
  }
  RateLimiter attest;
  RateLimiter sign_x509;
  RateLimiter sign_jwt;
  RateLimiter publish_jwt;
  RateLimiter post_status;
};

}  // namespace limpet::server
