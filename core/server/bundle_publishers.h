// SPDX-License-Identifier: Apache-2.0
#pragma once
// Leaves the own bundle with every bundle publisher: at the start, after each change, and again after a failure, with a
// pause that doubles from 5 s to 5 min. Publishers do not wait for one another, and none is given a second bundle
// before it is done with the first. Health says which one fails ("bundlepublisher:<name>", degraded). Owned by
// ServerCore; loop thread.

#include <list>
#include <vector>

#include "loop/loop.h"
#include "plugin/bundle_publisher.h"
#include "report/health.h"
#include "report/log.h"
#include "server/bundle_cache.h"

namespace limpet::server {

class BundlePublishers final : public StoreObserver {
 public:
  BundlePublishers(Loop& loop, Logger& logger, Health& health, Store& store, const BundleCache& bundles,
                   const std::vector<BundlePublisher*>& publishers);
  ~BundlePublishers() override;
  BundlePublishers(const BundlePublishers&) = delete;
  BundlePublishers& operator=(const BundlePublishers&) = delete;

  // Publishes what there is; nothing while the server has no bundle yet.
  void start();
  void on_commit(uint64_t revision, const std::vector<Change>& changes) override;

 private:
  class Outlet;
  Store& store_;
  const BundleCache& bundles_;
  std::list<Outlet> outlets_;
};

}  // namespace limpet::server
