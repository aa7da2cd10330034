// SPDX-License-Identifier: Apache-2.0
#pragma once
// What HttpServer and its connections know of each other, and what both versions of HTTP do alike: judge a request,
// finish a response. Loop thread only.

#include <memory>
#include <optional>

#include "base/clock.h"
#include "wire/http.h"

namespace limpet::wire {

class HttpConnectionOwner {
 public:
  virtual ~HttpConnectionOwner() = default;
  virtual HttpHandler& handler() = 0;
  virtual const Clock& clock() = 0;
  virtual void on_connection_over(uint64_t connection) = 0;  // destroy it later, not from inside
  virtual void on_abuse(const Peer& peer, const Error& why) = 0;
};

class HttpConnection {
 public:
  virtual ~HttpConnection() = default;
  virtual void drain() = 0;  // requests in flight are answered, then it is over
  [[nodiscard]] virtual bool busy() const = 0;
  // Since when no request is in flight, in loop time.
  [[nodiscard]] virtual int64_t idle_since_ms() const = 0;
};

std::unique_ptr<HttpConnection> http1_connection(Loop& loop, std::unique_ptr<Stream> stream, Peer peer, bool tls,
                                                 HttpConnectionOwner& owner);
std::unique_ptr<HttpConnection> http2_connection(Loop& loop, std::unique_ptr<Stream> stream, Peer peer,
                                                 HttpConnectionOwner& owner);

// Splits the target (origin or absolute form) into path and query of `request`; the answer to what the handler does not
// get to see, or nullopt.
std::optional<HttpResponse> judge_request(HttpRequest& request, std::string_view target);
// The handler's answer, or what stands for its error.
HttpResponse response_or_error(Result<HttpResponse> result);
// Adds date and content-length, turns a conditional request's answer into 304, drops the body for HEAD.
void finish_response(HttpResponse& response, bool head, const HttpFields& request_fields, int64_t now);
// "Not Found"; "" for a number without a name.
std::string_view http_reason(int status);

}  // namespace limpet::wire
