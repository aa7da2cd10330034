// SPDX-License-Identifier: Apache-2.0
#pragma once
// The bundle endpoint (SPIFFE Federation, section 5): GET / answers with the own bundle as JSON; other paths are not
// found. Versions, methods and conditional requests are the HTTP server's. Owned by Server; loop thread only.

#include "server/bundle_cache.h"
#include "wire/http.h"

namespace limpet::server {

class BundleEndpoint final : public wire::HttpHandler {
 public:
  BundleEndpoint(Loop& loop, const BundleCache& bundles, int64_t refresh_hint_s)
      : loop_(loop), bundles_(bundles), refresh_hint_s_(refresh_hint_s) {}
  void handle(wire::HttpRequest request, Done<wire::HttpResponse> done) override;

 private:
  Loop& loop_;
  const BundleCache& bundles_;
  int64_t refresh_hint_s_;
  Bundle rendered_;  // what the document is of
  wire::HttpResponse document_;
};

}  // namespace limpet::server
