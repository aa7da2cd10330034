// SPDX-License-Identifier: Apache-2.0
#pragma once
// HTTP as both sides of the project see it: a request in, a response out. What a path means is the handler's. The
// versions (HTTP/1.1, HTTP/2), framing, HEAD, conditional requests and bounds are the server's (wire/http_server.h).
// Loop thread only.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "loop/done.h"
#include "loop/loop.h"
#include "wire/grpc.h"

namespace limpet::wire {

using HttpFields = std::vector<std::pair<std::string, std::string>>;  // names in lower case

// The first value of the field; empty: absent.
std::string_view find_field(const HttpFields& fields, std::string_view name);

struct HttpRequest {
  std::string method;  // "GET" or "HEAD": the server answers everything else itself
  std::string path;    // as sent, without query: starts with '/'; not percent-decoded
  std::string query;   // what followed '?'
  std::string host;    // Host or :authority as sent, "example.org:8443"; empty only with HTTP/1.0
  HttpFields fields;
  Peer peer;  // its pidfd is the connection's
  bool tls = false;
};

struct HttpResponse {
  int status = 200;
  HttpFields fields = {};  // content-type, etag, cache-control, ...; lengths and dates are the server's
  Bytes body = {};         // also for HEAD, which sends only its length
};
HttpResponse http_text(int status, std::string_view text);                                 // text/plain
HttpResponse http_body(int status, std::string_view content_type, std::string_view text);  // any other type

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // `done` is called later, never from inside (http_answer() does that). A conditional request is answered like any
  // other: with an "etag" or "last-modified" field the server makes a 304 of it where it is due. An error becomes 500,
  // or 503 for UNAVAILABLE, without its text.
  virtual void handle(HttpRequest request, Done<HttpResponse> done) = 0;
};

// Answers at the next turn of the loop.
void http_answer(Loop& loop, Done<HttpResponse> done, HttpResponse response);

// "Wed, 25 Nov 2026 22:00:00 GMT" (RFC 9110 5.6.7).
std::string http_date(int64_t unix_seconds);
// A strong entity tag over the bytes: the quoted beginning of their SHA-256.
std::string http_etag(BytesView body);

}  // namespace limpet::wire
