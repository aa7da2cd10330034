// SPDX-License-Identifier: Apache-2.0
#pragma once
// Fetches bundle documents over HTTPS: https_web by the Web's rules (host name, certificate authorities of a file),
// https_spiffe by SPIFFE's (the endpoint's SVID against the stored bundle of its trust domain, and its ID). The
// document is read and its keys parsed on a worker. Owned by Server; loop thread only.

#include "base/clock.h"
#include "loop/uv_loop.h"
#include "server/bundle_fetcher.h"

namespace limpet::server {

class HttpsBundleFetcher final : public BundleFetcher {
 public:
  // The clock is asked on workers: it outlives the loop's jobs. `web_roots`: a PEM file, read for each https_web fetch.
  HttpsBundleFetcher(UvLoop& loop, const Clock& clock, std::string web_roots)
      : loop_(loop), clock_(clock), web_roots_(std::move(web_roots)) {}
  void fetch(BundleFetch what, Done<FetchedBundle> done) override;

 private:
  UvLoop& loop_;
  const Clock& clock_;
  std::string web_roots_;
};

// Accepts the one SPIFFE ID, proven against the roots of its trust domain. For tests; `clock` as above.
Result<void> verify_bundle_endpoint(const std::vector<Bytes>& chain, const BundleSet& roots, const SpiffeId& expected,
                                    int64_t now);

}  // namespace limpet::server
