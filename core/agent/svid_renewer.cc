// SPDX-License-Identifier: Apache-2.0
#include "agent/svid_renewer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "agent/phase.h"

namespace limpet::agent {

namespace {
constexpr size_t kMostPerCall = 500;         // as SPIRE's agent asks at most
constexpr int64_t kWindowMs = 30'000;        // what falls due within this, or 2 % of its life, comes along
constexpr int64_t kLongestTimerMs = 60'000;  // the wall clock may jump
constexpr size_t kTaintedAtOnce = 100;       // under a tainted authority: so many in each pause, as SPIRE's agent
constexpr int64_t kTaintedPauseMs = 5'000;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
}  // namespace

SvidRenewer::SvidRenewer(Loop& loop, const Clock& clock, Logger& log, Link& link, IdentityCache& cache,
                         KeyType key_type, size_t cache_limit, SvidRenewerClient& client, Metrics& metrics)
    : loop_(loop),
      clock_(clock),
      log_(log),
      link_(link),
      cache_(cache),
      key_type_(key_type),
      cache_limit_(cache_limit == 0 ? kNever : cache_limit),
      client_(client),
      metrics_(metrics),
      batch_limit_(kMostPerCall),
      timer_(loop) {}

void SvidRenewer::poke() {
  if (batch_ == nullptr && !pausing_ && !held_) timer_.start<&SvidRenewer::look>(0, this);
}

void SvidRenewer::kick() {
  pausing_ = false;
  backoff_.reset();
  poke();
}

void SvidRenewer::release() {
  held_ = false;
  poke();
}

// Unix milliseconds; kNever: it needs none. `room` is how many more unasked-for SVIDs the cache may take.
int64_t SvidRenewer::due_at(const Identity& identity, size_t& room) const {
  if (identity.entry.store_svid) return kNever;
  if (identity.svid == nullptr) {
    if (identity.watchers > 0) return 0;
    if (identity.entry.disable_x509_svid_prefetch || room == 0) return kNever;
    room--;
    return 0;
  }
  if (!identity.current()) return 0;
  const CachedSvid& svid = *identity.svid;
  if (cache_.tainted(svid)) return tainted_at_;
  const int64_t rests_until = svid.rests_until + clock_.now_ms() - loop_.now_ms();
  return std::max(rests_until, renewal_time_ms(identity.entry.id, svid.not_before, svid.not_after));
}

std::vector<SvidRenewer::Due> SvidRenewer::due_list() {
  std::vector<Due> list;
  size_t room = cache_.svids() >= cache_limit_ ? 0 : cache_limit_ - cache_.svids();
  const int64_t wall_minus_loop = clock_.now_ms() - loop_.now_ms();
  for (auto& [id, identity] : cache_.identities()) {
    int64_t at = due_at(identity, room);
    if (at == kNever) continue;
    if (identity.retry_at != 0) at = std::max(at, identity.retry_at + wall_minus_loop);
    list.push_back({&identity, identity.svid != nullptr ? 2 : identity.watchers > 0 ? 0 : 1, at});
  }
  return list;
}

void SvidRenewer::look() {
  pausing_ = false;
  if (batch_ != nullptr) return;
  std::vector<Due> list = due_list();
  const int64_t now = clock_.now_ms();
  int64_t next = kNever;
  for (const Due& due : list) next = std::min(next, due.at);
  if (next > now) return plan(next == kNever ? kNever : next - now);

  std::erase_if(list, [now](const Due& due) {
    const auto& svid = due.identity->svid;
    const int64_t window = svid == nullptr ? 0 : std::min(kWindowMs, (svid->not_after - svid->not_before) * 20);
    return due.at > now + window;
  });
  size_t tainted = 0;
  std::erase_if(list, [&](const Due& due) {
    return due.identity->svid != nullptr && cache_.tainted(*due.identity->svid) && ++tainted > kTaintedAtOnce;
  });
  if (tainted > 0) tainted_at_ = now + kTaintedPauseMs;
  std::sort(list.begin(), list.end(), [](const Due& a, const Due& b) {
    if (a.urgency != b.urgency) return a.urgency < b.urgency;
    const int64_t expiry_a = a.identity->svid == nullptr ? 0 : a.identity->svid->not_after;
    const int64_t expiry_b = b.identity->svid == nullptr ? 0 : b.identity->svid->not_after;
    return expiry_a < expiry_b;
  });
  if (list.size() > batch_limit_) list.resize(batch_limit_);
  std::vector<SignItem> items;
  size_t expiring = 0;
  size_t outdated = 0;
  for (const Due& due : list) {
    const Entry& entry = due.identity->entry;
    if (due.identity->svid != nullptr) ++(due.identity->current() ? expiring : outdated);
    items.push_back({entry.id, entry.spiffe_id, entry.revision_number, entry.created_at});
  }
  if (expiring > 0) metrics_.sample("cache_manager_expiring_svids", static_cast<double>(expiring));
  if (outdated > 0) metrics_.sample("cache_manager_outdated_svids", static_cast<double>(outdated));
  batch_size_ = items.size();
  asked_ms_ = loop_.now_ms();
  batch_ = std::make_unique<SignBatch>(loop_, link_, key_type_);
  batch_->start(std::move(items), signed_.then<&SvidRenewer::on_signed>(this));
}

void SvidRenewer::on_signed(Result<std::vector<SignedItem>> signed_items) {
  batch_.reset();
  metrics_.call("manager_sync_fetch_svids_updates", signed_items ? Code::ok : signed_items.error().code,
                loop_.now_ms() - asked_ms_);
  if (!signed_items) return on_batch_failed(signed_items.error());
  backoff_.reset();
  failing_ = false;
  batch_limit_ = std::min(kMostPerCall, batch_limit_ * 2);
  std::vector<std::string> changed;
  for (SignedItem& one : *signed_items) {
    Identity* identity = cache_.find(one.item.entry_id);
    if (identity == nullptr || identity->entry.spiffe_id != one.item.spiffe_id) continue;  // gone or another meanwhile
    if (!one.svid) {
      refuse(*identity, one.svid.error());
      continue;
    }
    (*one.svid)->tainted_then = cache_.tainted((*one.svid)->root_key_id);
    (*one.svid)->rests_until = loop_.now_ms() + rest_ms((*one.svid)->not_before, (*one.svid)->not_after);
    cache_.put_svid(*identity, std::move(*one.svid));
    changed.push_back(one.item.entry_id);
  }
  for (std::string& id : enforce_limit()) changed.push_back(std::move(id));
  if (!changed.empty()) client_.on_svids(changed);
  poke();
}

// The call as a whole failed. When the size may be why, half as many the next time.
void SvidRenewer::on_batch_failed(const Error& why) {
  if (why.code != Code::unavailable && why.code != Code::permission_denied && why.code != Code::unauthenticated)
    batch_limit_ = std::max<size_t>(1, batch_size_ / 2);
  const int64_t pause = backoff_.pause();
  log_.log(std::exchange(failing_, true) ? LogLevel::debug : LogLevel::warn,
           "Workload SVIDs could not be signed, trying again",
           {{"count", std::to_string(batch_size_)}, {"error", why.text()}, {"retry_in_ms", std::to_string(pause)}});
  pausing_ = true;
  timer_.start<&SvidRenewer::look>(pause, this);
  client_.on_sign_refused(why);
}

// The server refused this one: 5 s, doubled each time, at most 5 minutes.
void SvidRenewer::refuse(Identity& identity, const Error& why) {
  identity.failures = std::min(identity.failures + 1, 7);
  identity.retry_at = loop_.now_ms() + std::min<int64_t>(300'000, 2'500LL << identity.failures);
  log_.warn("The server did not sign an SVID",
            {{"entry_id", identity.entry.id}, {"spiffe_id", identity.entry.spiffe_id.text()}, {"error", why.text()}});
}

// Above the soft limit the SVIDs used longest ago go, those in use never.
std::vector<std::string> SvidRenewer::enforce_limit() {
  std::vector<std::string> dropped;
  if (cache_.svids() <= cache_limit_) return dropped;
  std::vector<Identity*> idle;
  for (auto& [id, identity] : cache_.identities())
    if (identity.svid != nullptr && identity.watchers == 0) idle.push_back(&identity);
  std::sort(idle.begin(), idle.end(), [](const Identity* a, const Identity* b) { return a->used_at < b->used_at; });
  for (Identity* identity : idle) {
    if (cache_.svids() <= cache_limit_) break;
    cache_.drop_svid(*identity);
    dropped.push_back(identity->entry.id);
  }
  return dropped;
}

void SvidRenewer::plan(int64_t next_ms) {
  if (next_ms == kNever) return timer_.stop();
  timer_.start<&SvidRenewer::look>(std::clamp<int64_t>(next_ms, 0, kLongestTimerMs), this);
}

}  // namespace limpet::agent
