// SPDX-License-Identifier: Apache-2.0
#pragma once
// The HTTP client: one GET over HTTP/1.1, its answer whole or an error. Redirects are not followed (the answer is what
// the server said), nothing is kept or retried: when to ask again is the caller's. Loop thread only.
//
//   WebClientTls policy(roots, url->host, clock);            // https_web; https_spiffe: a policy of the caller's
//   http_get(loop, {.url = *url, .tls = &policy, .etag = kept.etag}, fetched_.then<&Fetch::on_fetched>(this));

#include <string>

#include "base/limits.h"
#include "loop/uv_loop.h"
#include "wire/http.h"
#include "wire/tls.h"
#include "wire/url.h"

namespace limpet::wire {

struct HttpGet {
  Url url;
  TlsPolicy* tls = nullptr;    // required for https; outlives the answer, or the Pending that waits for it
  std::string unix_path = {};  // dial this socket instead of the URL's host
  std::string etag = {};       // of the copy at hand: the server may answer 304
  std::string last_modified = {};
  int64_t timeout_ms = 30'000;  // for all of it
  size_t max_body = limits::kHttpReplyBytes;
};

struct HttpReply {
  int status = 0;  // 200, 304, or whatever the server thinks
  HttpFields fields;
  Bytes body;
  std::vector<Bytes> chain;  // the server's verified chain
  [[nodiscard]] std::string etag() const { return std::string(find_field(fields, "etag")); }
  [[nodiscard]] std::string last_modified() const { return std::string(find_field(fields, "last-modified")); }
};

// The answer with any status, or: UNAVAILABLE (`dial tcp 1.2.3.4:443: connect: connection refused`), UNAUTHENTICATED
// (the policy's verifier), INVALID_ARGUMENT (not HTTP), RESOURCE_EXHAUSTED (a bound), DEADLINE_EXCEEDED.
void http_get(UvLoop& loop, HttpGet request, Done<HttpReply> done);

// The same on a stream that is connected (and secured) already; for tests and callers with a dial of their own.
class HttpClientCall {
 public:
  virtual ~HttpClientCall() = default;  // drops the connection
  static std::unique_ptr<HttpClientCall> start(Loop& loop, std::unique_ptr<Stream> stream, const HttpGet& request,
                                               Done<HttpReply> done);
};

}  // namespace limpet::wire
