// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who fetches the bundle of a federated trust domain at once, on request. Loop thread only.

#include "loop/done.h"
#include "spiffe/id.h"

namespace limpet::server {

class BundleRefresher {
 public:
  virtual ~BundleRefresher() = default;
  // False: there is no federation relationship with it, and `done` is dropped. Otherwise `done` says how it went.
  virtual bool refresh(const TrustDomain& trust_domain, Done<void>& done) = 0;
};

}  // namespace limpet::server
