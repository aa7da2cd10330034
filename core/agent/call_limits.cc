// SPDX-License-Identifier: Apache-2.0
#include "agent/call_limits.h"

#include <unistd.h>

#include <algorithm>

#include "crypto/key.h"

namespace limpet::agent {

namespace {

constexpr int64_t kSweepMs = 60'000;

// The set is sorted: the same selectors always give the same digest.
Bytes digest_of(const SelectorSet& caller) {
  std::string text;
  for (const Selector& selector : caller) {
    text += selector.text();
    text += '\0';
  }
  return sha256(as_bytes(text));
}

}  // namespace

CallLimits::CallLimits(Loop& loop, const CallRates& rates) : loop_(loop) {
  const auto limit = [this](const char* path, int64_t rate) {
    if (rate > 0) methods_.push_back({.path = path, .rate = static_cast<double>(rate)});
  };
  limit("/SpiffeWorkloadAPI/FetchX509SVID", rates.fetch_x509_svid);
  limit("/SpiffeWorkloadAPI/FetchJWTSVID", rates.fetch_jwt_svid);
  limit("/SpiffeWorkloadAPI/FetchX509Bundles", rates.fetch_x509_bundles);
  limit("/SpiffeWorkloadAPI/FetchJWTBundles", rates.fetch_jwt_bundles);
  limit("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", rates.stream_secrets);
  limit("/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets", rates.fetch_secrets);
}

Result<void> CallLimits::admit(const wire::ServerCall& call, const SelectorSet& caller) {
  const auto method = std::ranges::find(methods_, call.method(), &Method::path);
  if (method == methods_.end()) return {};
  if (call.peer().credentials && call.peer().credentials->pid == ::getpid()) return {};
  TokenBucket& bucket = bucket_of(*method, caller);
  if (bucket.tokens < 1) return fail(Code::unavailable, "rate limit exceeded for " + method->path);
  bucket.tokens -= 1;
  return {};
}

// A bucket that has filled up again says nothing and is forgotten.
TokenBucket& CallLimits::bucket_of(Method& method, const SelectorSet& caller) {
  const int64_t now = loop_.now_ms();
  if (now >= method.sweep_ms) {
    method.sweep_ms = now + kSweepMs;
    std::erase_if(method.buckets,
                  [&](const auto& item) { return item.second.filled(method.rate, now) >= method.rate; });
  }
  Bytes key = digest_of(caller);
  if (method.buckets.size() >= kMostCallers && !method.buckets.contains(key)) key.clear();
  const auto [place, fresh] = method.buckets.try_emplace(std::move(key));
  TokenBucket& bucket = place->second;
  bucket = {fresh ? method.rate : bucket.filled(method.rate, now), now};
  return bucket;
}

}  // namespace limpet::agent
