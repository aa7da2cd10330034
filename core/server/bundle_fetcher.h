// SPDX-License-Identifier: Apache-2.0
#pragma once
// Fetches the bundle document of another trust domain from its endpoint, once. The real one (server/bundle_https.h)
// goes over the network; tests have their own. Loop thread only.

#include <memory>
#include <optional>
#include <string>

#include "loop/done.h"
#include "spiffe/bundle.h"
#include "store/federation.h"

namespace limpet::server {

struct BundleFetch {
  FederationRelationship relationship;
  // The roots of every trust domain, to verify an https_spiffe endpoint. Owners: the bundle cache (while it is the
  // current set) and the verifier of the fetch, on a worker.
  std::shared_ptr<const BundleSet> roots;
  std::string etag;  // of the copy at hand; empty: there is none
};

struct FetchedBundle {
  std::optional<Bundle> bundle;  // nullopt: not modified
  std::string etag;
};

class BundleFetcher {
 public:
  virtual ~BundleFetcher() = default;
  // Answers within a bounded time; later, never from inside.
  virtual void fetch(BundleFetch what, Done<FetchedBundle> done) = 0;
};

}  // namespace limpet::server
