// SPDX-License-Identifier: Apache-2.0
#include "wire/http1_parser.h"

#include <algorithm>

namespace limpet::wire {

// The trampolines: each finds the parser and hands over.
struct Http1Callbacks {
  static Http1Parser& self(llhttp_t* parser) { return *static_cast<Http1Parser*>(parser->data); }

  static int on_begin(llhttp_t* parser) {
    self(parser).started_ = true;
    return HPE_OK;
  }
  static int on_method(llhttp_t* parser, const char* at, size_t size) {
    self(parser).message_.method.append(at, size);
    return HPE_OK;
  }
  static int on_url(llhttp_t* parser, const char* at, size_t size) {
    Http1Parser& me = self(parser);
    if (me.message_.target.size() + size > limits::kHttpTargetBytes) {
      return me.refuse(414, Code::resource_exhausted,
                       "request target longer than " + std::to_string(limits::kHttpTargetBytes) + " bytes");
    }
    me.message_.target.append(at, size);
    return HPE_OK;
  }
  static int on_version(llhttp_t* parser) {
    Http1Parser& me = self(parser);
    if (llhttp_get_http_major(parser) != 1) return me.refuse(505, Code::invalid_argument, "not HTTP/1");
    me.message_.minor = llhttp_get_http_minor(parser);
    return HPE_OK;
  }
  // Headers and, behind a chunked body, trailers: both are bounded, only headers are kept.
  static int count(Http1Parser& me, size_t size) {
    me.header_bytes_ += size;
    if (me.header_bytes_ <= limits::kHeaderBytes) return HPE_OK;
    return me.refuse(431, Code::resource_exhausted,
                     "header fields larger than " + std::to_string(limits::kHeaderBytes) + " bytes");
  }
  static int on_name(llhttp_t* parser, const char* at, size_t size) {
    Http1Parser& me = self(parser);
    if (!me.head_done_) me.name_.append(at, size);
    return count(me, size);
  }
  static int on_value(llhttp_t* parser, const char* at, size_t size) {
    Http1Parser& me = self(parser);
    if (!me.head_done_) me.value_.append(at, size);
    return count(me, size);
  }
  static int on_field(llhttp_t* parser) {
    Http1Parser& me = self(parser);
    if (++me.headers_ > limits::kHttpHeaders) {
      return me.refuse(431, Code::resource_exhausted,
                       "more than " + std::to_string(limits::kHttpHeaders) + " header fields");
    }
    if (me.head_done_) return HPE_OK;
    std::ranges::transform(me.name_, me.name_.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    me.message_.fields.emplace_back(std::exchange(me.name_, {}), std::exchange(me.value_, {}));
    return HPE_OK;
  }
  static int too_large(Http1Parser& me) {
    return me.refuse(413, Code::resource_exhausted, "body larger than " + std::to_string(me.max_body_) + " bytes");
  }
  static int on_head(llhttp_t* parser) {
    Http1Parser& me = self(parser);
    me.head_done_ = true;
    me.message_.status = llhttp_get_status_code(parser);
    if (parser->content_length > me.max_body_) return too_large(me);
    if (me.side_ == Http1Parser::Side::response && llhttp_get_upgrade(parser) != 0) {
      return me.refuse(400, Code::invalid_argument, "the server switches protocols");
    }
    return HPE_OK;
  }
  static int on_body(llhttp_t* parser, const char* at, size_t size) {
    Http1Parser& me = self(parser);
    if (me.message_.body.size() + size > me.max_body_) return too_large(me);
    append(me.message_.body, as_bytes({at, size}));
    return HPE_OK;
  }
  static int on_complete(llhttp_t* parser) {
    Http1Parser& me = self(parser);
    me.message_.keep_alive = llhttp_should_keep_alive(parser) != 0;
    me.done_ = true;
    return HPE_PAUSED;  // what follows belongs to the next message
  }

  static const llhttp_settings_t* table() {
    static const llhttp_settings_t kTable = [] {
      llhttp_settings_t made;
      llhttp_settings_init(&made);
      made.on_message_begin = on_begin;
      made.on_method = on_method;
      made.on_url = on_url;
      made.on_version_complete = on_version;
      made.on_header_field = on_name;
      made.on_header_value = on_value;
      made.on_header_value_complete = on_field;
      made.on_headers_complete = on_head;
      made.on_body = on_body;
      made.on_message_complete = on_complete;
      return made;
    }();
    return &kTable;
  }
};

Http1Parser::Http1Parser(Side side, size_t body) : side_(side), max_body_(body) {
  llhttp_init(&parser_, side == Side::request ? HTTP_REQUEST : HTTP_RESPONSE, Http1Callbacks::table());
  parser_.data = this;
}

int Http1Parser::refuse(int status, Code code, std::string why) {
  refusal_ = status;
  error_ = Error{code, std::move(why)};
  return HPE_USER;
}

Result<void> Http1Parser::judge(llhttp_errno_t code) {
  if (code == HPE_OK || done_) return {};
  if (refusal_ != 0) return fail(error_);
  refusal_ = 400;
  const char* reason = llhttp_get_error_reason(&parser_);
  return fail(Code::invalid_argument, std::string("malformed HTTP/1 message: ") +
                                          (reason != nullptr && *reason != 0 ? reason : llhttp_errno_name(code)));
}

Result<size_t> Http1Parser::feed(BytesView bytes) {
  const std::string_view text = as_text(bytes);
  const llhttp_errno_t code = llhttp_execute(&parser_, text.data(), text.size());
  TRY(judge(code));
  if (!done_) return text.size();
  // Paused behind the message's last byte. Without one (the message was whole before) nothing was taken.
  const char* stop = llhttp_get_error_pos(&parser_);
  return stop == nullptr ? text.size() : static_cast<size_t>(stop - text.data());
}

Result<void> Http1Parser::finish() {
  if (done_) return {};
  TRY(judge(llhttp_finish(&parser_)));
  if (done_) return {};
  refusal_ = 400;
  return fail(Code::unavailable, started_ ? "the connection ended within a message" : "EOF");
}

Http1Message Http1Parser::take() {
  Http1Message taken = std::exchange(message_, {});
  name_.clear();
  value_.clear();
  header_bytes_ = headers_ = 0;
  head_done_ = started_ = done_ = false;
  llhttp_reset(&parser_);
  parser_.data = this;
  return taken;
}

}  // namespace limpet::wire
