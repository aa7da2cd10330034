// SPDX-License-Identifier: Apache-2.0
#include "server/bundle_publishers.h"

#include <algorithm>

#include "store/codec.h"

namespace limpet::server {
namespace {
constexpr int64_t kFirstPauseMs = 5'000;
constexpr int64_t kLongestPauseMs = 300'000;
}  // namespace

class BundlePublishers::Outlet {
 public:
  Outlet(Loop& loop, Logger& logger, Health& health, const BundleCache& bundles, BundlePublisher& publisher)
      : logger_(logger), health_(health), bundles_(bundles), publisher_(publisher), timer_(loop) {}

  // Through the timer: whatever changes in one turn of the loop is published once.
  void soon() { timer_.start<&Outlet::publish>(0, this); }

 private:
  void publish() {
    if (bundles_.own() == nullptr) return;
    if (published_.armed()) {
      again_ = true;
      return;
    }
    again_ = false;
    sequence_number_ = bundles_.own()->sequence_number;
    publisher_.publish(*bundles_.own(), published_.then<&Outlet::on_published>(this));
  }

  void on_published(Result<void> result) {
    const std::string trouble = result ? std::string() : result.error().text();
    if (trouble != trouble_) {
      if (trouble.empty()) {
        logger_.info("Bundle can be published again", {{"bundle_publisher", publisher_.name()}});
      } else {
        logger_.warn("Bundle not published, trying again",
                     {{"bundle_publisher", publisher_.name()}, {"error", trouble}});
      }
    }
    trouble_ = trouble;
    health_.report("bundlepublisher:" + publisher_.name(), trouble.empty() ? HealthState::ok : HealthState::degraded,
                   trouble);
    if (!result) {
      timer_.start<&Outlet::publish>(pause_ms_, this);
      pause_ms_ = std::min(pause_ms_ * 2, kLongestPauseMs);
      return;
    }
    pause_ms_ = kFirstPauseMs;
    logger_.debug("Bundle published",
                  {{"bundle_publisher", publisher_.name()}, {"sequence_number", std::to_string(sequence_number_)}});
    if (again_) soon();
  }

  Logger& logger_;
  Health& health_;
  const BundleCache& bundles_;
  BundlePublisher& publisher_;
  std::string trouble_;  // the last failure said, so that it is said once
  int64_t pause_ms_ = kFirstPauseMs;
  uint64_t sequence_number_ = 0;  // of the bundle on its way
  bool again_ = false;            // the bundle changed while one was on its way
  Timer timer_;
  Pending<void> published_;
};

BundlePublishers::BundlePublishers(Loop& loop, Logger& logger, Health& health, Store& store, const BundleCache& bundles,
                                   const std::vector<BundlePublisher*>& publishers)
    : store_(store), bundles_(bundles) {
  for (BundlePublisher* publisher : publishers) outlets_.emplace_back(loop, logger, health, bundles, *publisher);
  store_.subscribe(*this);
}

BundlePublishers::~BundlePublishers() { store_.unsubscribe(*this); }

void BundlePublishers::start() {
  for (Outlet& outlet : outlets_) outlet.soon();
}

void BundlePublishers::on_commit(uint64_t, const std::vector<Change>& changes) {
  if (outlets_.empty()) return;
  const Bytes own = text_key(bundles_.trust_domain().name());
  const bool ours = std::ranges::any_of(
      changes, [&](const Change& change) { return change.table == TableId::bundles && change.key == own; });
  if (ours) start();
}

}  // namespace limpet::server
