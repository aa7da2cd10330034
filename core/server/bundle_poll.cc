// SPDX-License-Identifier: Apache-2.0
#include "server/bundle_poll.h"

#include <algorithm>

#include "base/limits.h"
#include "server/bundle_drafts.h"
#include "store/bundles.h"

namespace limpet::server {
namespace {

constexpr int64_t kShortestHint = 60;
constexpr int64_t kLongestHint = 4 * 24 * 3600;  // a hint of years would mean never
constexpr int64_t kWithoutHint = 300;
constexpr int64_t kWithoutBundle = 60;
constexpr int64_t kStartMs = 2'000;  // the first questions are spread over this
constexpr int64_t kSoonMs = 1'000;
constexpr int kAttempts = 8;  // to store, when others edit the same bundle
constexpr int kMostDoublings = 2;

uint64_t phase_of(std::string_view own, std::string_view other) {
  uint64_t hash = 14'695'981'039'346'656'037U;  // FNV-1a: the same in every build
  for (const std::string_view text : {own, std::string_view("|"), other}) {
    for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 1'099'511'628'211U;
  }
  return (hash >> 32) % 1000;
}

}  // namespace

int64_t poll_interval_s(const Bundle* stored) {
  if (stored == nullptr) return kWithoutBundle;
  if (stored->refresh_hint <= 0) return kWithoutHint;
  return std::clamp(stored->refresh_hint, kShortestHint, kLongestHint) / 4;
}

Result<void> check_fetched(const FederationRelationship& relationship, const Bundle& fetched, const Bundle* stored) {
  TRY(check_bundle_size(fetched));
  if (fetched.x509_authorities.empty() && fetched.jwt_authorities.empty()) {
    return fail(Code::invalid_argument, "the endpoint's bundle has no authorities");
  }
  // the next question could not be asked any more
  if (fetched.x509_authorities.empty() && relationship.profile == BundleProfile::https_spiffe &&
      relationship.endpoint_id.member_of(relationship.trust_domain)) {
    return fail(Code::invalid_argument,
                "the endpoint's bundle has no X.509 authority to verify the endpoint itself with");
  }
  // a document without a number says nothing about its age
  if (stored != nullptr && fetched.sequence_number != 0 && fetched.sequence_number < stored->sequence_number) {
    return fail(Code::failed_precondition,
                "the endpoint's bundle has sequence number " + std::to_string(fetched.sequence_number) +
                    ", older than the stored " + std::to_string(stored->sequence_number) +
                    "; if the other side started anew, store its bundle with \"bundle set\"");
  }
  return {};
}

BundlePoll::BundlePoll(const BundlePollParts& parts, FederationRelationship relationship)
    : parts_(parts),
      relationship_(std::move(relationship)),
      name_(relationship_.trust_domain.name()),
      part_("federation " + name_),
      phase_(phase_of(parts.bundles.trust_domain().name(), name_)),
      timer_(parts.loop) {}

BundlePoll::~BundlePoll() {
  if (failures_ > 0) parts_.health.report(part_, HealthState::ok);
}

void BundlePoll::start() { timer_.start<&BundlePoll::poll>(static_cast<int64_t>(phase_) * kStartMs / 1000, this); }

void BundlePoll::refresh(Done<void> done) {
  waiting_.push_back(std::move(done));
  if (!running_) poll();
}

void BundlePoll::on_bundle_changed(const TrustDomain& trust_domain) {
  if (running_ || failures_ == 0) return;
  if (trust_domain == relationship_.trust_domain || relationship_.endpoint_id.member_of(trust_domain)) {
    timer_.start<&BundlePoll::poll>(kSoonMs, this);  // what failed may work with it
  }
}

// 1. ask, naming the copy at hand if it is still the one the tag belongs to
void BundlePoll::poll() {
  timer_.stop();
  running_ = true;
  attempts_ = 0;
  asked_ms_ = parts_.loop.now_ms();
  const auto stored = stored_bundle();
  const bool same = stored && !etag_of_.empty() && encode_bundle(*stored) == etag_of_;
  if (!same) etag_.clear();
  parts_.fetcher->fetch({relationship_, parts_.bundles.roots(), etag_}, fetched_.then<&BundlePoll::on_fetched>(this));
}

// 2. the document, or word that ours is current
void BundlePoll::on_fetched(Result<FetchedBundle> fetched) {
  if (!fetched) return failed(fetched.error());
  if (!fetched->bundle) {
    if (etag_.empty()) return failed({Code::internal, "the endpoint said \"not modified\" without being asked"});
    return succeeded();
  }
  fetched_bundle_ = std::move(*fetched->bundle);
  fetched_etag_ = std::move(fetched->etag);
  store();
}

// 3. judge it against what is stored, and store it
void BundlePoll::store() {
  ++attempts_;
  ChangeSet changes;
  {
    const Snapshot snapshot = parts_.store.read();
    BundleDrafts drafts(snapshot);
    const auto stored = drafts.find(relationship_.trust_domain);
    if (!stored) return failed(stored.error());
    if (const auto good = check_fetched(relationship_, fetched_bundle_, *stored); !good) return failed(good.error());
    drafts.put(fetched_bundle_);
    drafts.write(changes);
  }
  if (changes.empty()) return on_stored(uint64_t{0});
  parts_.store.commit(std::move(changes), stored_.then<&BundlePoll::on_stored>(this));
}

void BundlePoll::on_stored(Result<uint64_t> revision) {
  if (!revision && revision.error().code == Code::aborted && attempts_ < kAttempts) return store();
  if (!revision) return failed(std::move(revision).error().within("store bundle"));
  etag_ = std::move(fetched_etag_);
  etag_of_ = encode_bundle(fetched_bundle_);
  if (*revision != 0) {
    parts_.metrics.count("bundle_manager_update_federated_bundle", {{"trust_domain_id", name_}});
    parts_.logger.info("Bundle of a federated trust domain changed",
                       {{"trust_domain", name_},
                        {"sequence_number", std::to_string(fetched_bundle_.sequence_number)},
                        {"x509_authorities", std::to_string(fetched_bundle_.x509_authorities.size())},
                        {"jwt_authorities", std::to_string(fetched_bundle_.jwt_authorities.size())}});
  }
  succeeded();
}

void BundlePoll::succeeded() {
  if (failures_ > 0) {
    parts_.health.report(part_, HealthState::ok);
    parts_.logger.info("Bundle of a federated trust domain is current again", {{"trust_domain", name_}});
  }
  failures_ = 0;
  end({});
}

// What is stored stays and is used on: stale is better than none.
void BundlePoll::failed(const Error& why) {
  const bool have = stored_bundle().has_value();
  parts_.health.report(part_, HealthState::degraded,
                       (have ? "its bundle may be stale: " : "its bundle has not been fetched yet: ") + why.message);
  failures_++;
  parts_.logger.log(failures_ == 1 ? LogLevel::warn : LogLevel::debug,
                    "Could not fetch the bundle of a federated trust domain, trying again",
                    {{"trust_domain", name_},
                     {"url", relationship_.url},
                     {"error", why.text()},
                     {"retry_in_ms", std::to_string(pause_ms())}});
  end(std::unexpected(why));
}

void BundlePoll::end(Result<void> result) {
  running_ = false;
  parts_.metrics.call("bundle_manager_fetch_federated_bundle", result ? Code::ok : result.error().code,
                      parts_.loop.now_ms() - asked_ms_, {{"trust_domain_id", name_}});
  timer_.start<&BundlePoll::poll>(pause_ms(), this);
  std::vector<Done<void>> waiting = std::move(waiting_);
  waiting_.clear();
  for (Done<void>& done : waiting) done(result);
}

std::optional<Bundle> BundlePoll::stored_bundle() const {
  auto stored = find_bundle(parts_.store.read(), relationship_.trust_domain);
  return stored ? std::optional(std::move(*stored)) : std::nullopt;
}

int64_t BundlePoll::pause_ms() const {
  const auto stored = stored_bundle();
  int64_t pause = poll_interval_s(stored ? &*stored : nullptr) * 1000;
  if (stored && failures_ > 1) pause <<= std::min(failures_ - 1, kMostDoublings);
  return pause + pause / 10 * static_cast<int64_t>(phase_) / 1000;
}

}  // namespace limpet::server
