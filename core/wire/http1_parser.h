// SPDX-License-Identifier: Apache-2.0
#pragma once
// HTTP/1 messages out of bytes, with llhttp, for both sides: requests of a server, responses of a client. Collects one
// message at a time within bounds. Loop thread only (any one thread, in fact).

#include <llhttp.h>

#include <string>

#include "base/limits.h"
#include "wire/http.h"

namespace limpet::wire {

struct Http1Message {
  std::string method;  // requests
  std::string target;
  int status = 0;  // responses
  int minor = 1;   // HTTP/1.<minor>
  HttpFields fields;
  Bytes body;
  bool keep_alive = false;
};

class Http1Parser {
 public:
  enum class Side { request, response };
  // `body`: the most it may have; a message that announces or sends more is an error.
  Http1Parser(Side side, size_t body);
  Http1Parser(const Http1Parser&) = delete;
  Http1Parser& operator=(const Http1Parser&) = delete;

  // Takes bytes up to the end of one message and returns how many; done() says whether it is whole. Not to be called
  // after an error, nor while done(). INVALID_ARGUMENT: not HTTP/1. RESOURCE_EXHAUSTED: a bound, named.
  Result<size_t> feed(BytesView bytes);
  // The peer closed. A response without a length ends here; anything else unfinished is an error.
  Result<void> finish();
  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] bool started() const { return started_; }
  // What a server answers to the last error: 400, 413, 414, 431 or 505.
  [[nodiscard]] int refusal() const { return refusal_; }
  // The message, once done(); the parser is then ready for the next.
  Http1Message take();

 private:
  friend struct Http1Callbacks;
  int refuse(int status, Code code, std::string why);
  Result<void> judge(llhttp_errno_t code);

  llhttp_t parser_;
  Side side_;
  size_t max_body_;
  Http1Message message_;
  std::string name_;
  std::string value_;
  size_t header_bytes_ = 0;
  size_t headers_ = 0;
  bool head_done_ = false;
  bool started_ = false;
  bool done_ = false;
  int refusal_ = 0;
  Error error_;
};

}  // namespace limpet::wire
