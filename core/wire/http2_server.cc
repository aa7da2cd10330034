// SPDX-License-Identifier: Apache-2.0
// HTTP/2 on one accepted connection, on the same session code as gRPC: each stream is one request and its answer.
#include <nghttp2/nghttp2.h>

#include <map>

#include "base/limits.h"
#include "wire/http2_connection.h"
#include "wire/http_connection.h"

namespace limpet::wire {
namespace {

constexpr Http2Session::Windows kWindows{.stream = 65'535, .connection = 65'535};  // requests have no body
constexpr uint32_t kStreams = 100;  // at once, on one connection; the session's own bound is for gRPC

class Http2Exchange;

class Http2WebConnection final : public Http2Connection, public HttpConnection {
 public:
  Http2WebConnection(Loop& loop, std::unique_ptr<Stream> stream, Peer peer, HttpConnectionOwner& owner);
  ~Http2WebConnection() override;

  void drain() override;
  [[nodiscard]] bool busy() const override { return !exchanges_.empty(); }
  [[nodiscard]] int64_t idle_since_ms() const override { return idle_since_ms_; }

 private:
  friend class Http2Exchange;
  Http2Stream* on_request(int32_t id) override;
  void on_settings() override;
  void on_goaway(int32_t, uint32_t, BytesView) override {}
  void on_lost(Error) override;
  void on_turn_end() override;
  void on_protocol_error(const Error& why) override { owner_.on_abuse(peer_, why); }
  void on_timeout();
  void remove(Http2Exchange& exchange);

  HttpConnectionOwner& owner_;
  Peer peer_;
  Timer timer_;  // the preface, later idleness
  bool open_ = false;
  bool draining_ = false;
  int64_t idle_since_ms_;
  std::map<int32_t, std::unique_ptr<Http2Exchange>> exchanges_;
};

class Http2Exchange final : public Http2Call {
 public:
  explicit Http2Exchange(Http2WebConnection& connection) : connection_(connection), timer_(connection.loop()) {
    timer_.start<&Http2Exchange::on_timeout>(limits::kHttpHeadMs, this);  // for all of the request
  }
  ~Http2Exchange() override { connection_.unlist(*this); }

  // ---- from the client ----
  void on_header(std::string_view name, std::string_view value) override {
    if (headers_done_) return;
    if (name == ":method") {
      request_.method = value;
    } else if (name == ":path") {
      target_ = value;
    } else if (name == ":authority") {
      request_.host = value;
    } else if (!name.starts_with(':')) {
      if (++headers_ > limits::kHttpHeaders) header_overflow = true;
      if (!header_overflow) request_.fields.emplace_back(name, value);
    }
  }
  void on_headers_done() override {
    headers_done_ = true;
    connection_.mark_ready(*this);
  }
  void on_data(BytesView bytes) override {
    connection_.session().consume_stream(id, bytes.size());
    body_ = body_ || !bytes.empty();
  }
  void on_peer_done() override { connection_.mark_ready(*this); }
  void on_closed(uint32_t) override {
    closed_ = true;
    connection_.mark_ready(*this);
  }
  void on_taken() override {}

  void deliver() override {
    if (closed_) return connection_.remove(*this);
    if (answered_) return;
    if (header_overflow) return answer(http_text(431, "header fields too large\n"));
    if (body_) return answer(http_text(413, "a body is not taken\n"));
    if (peer_done && !asked_) ask();
  }

 private:
  void ask() {
    asked_ = true;
    if (request_.host.empty()) request_.host = find_field(request_.fields, "host");
    head_ = request_.method == "HEAD";
    if (auto refusal = judge_request(request_, target_)) return answer(std::move(*refusal));
    request_.peer = connection_.peer_;
    request_.tls = true;
    fields_ = request_.fields;
    timer_.start<&Http2Exchange::on_timeout>(limits::kHttpAnswerMs, this);
    connection_.owner_.handler().handle(std::move(request_), response_.then<&Http2Exchange::on_response>(this));
  }
  void on_response(Result<HttpResponse> response) { answer(response_or_error(std::move(response))); }
  void on_timeout() {
    if (!headers_done_) {  // CONTINUATION frames that never come block the whole connection
      return connection_.lose(Error{Code::deadline_exceeded, "no whole request in time"});
    }
    if (!answered_) {
      response_.drop();
      return answer(asked_ ? http_text(503, "service unavailable\n") : http_text(408, "no whole request in time\n"));
    }
    connection_.session().reset(*this, NGHTTP2_CANCEL);  // the answer is not taken
    connection_.schedule();
  }
  void answer(HttpResponse response) {
    answered_ = true;
    timer_.start<&Http2Exchange::on_timeout>(limits::kHttpAnswerMs, this);
    finish_response(response, head_, fields_, connection_.owner_.clock().now());
    HeaderFields fields{{":status", std::to_string(response.status)}};
    fields.insert(fields.end(), std::make_move_iterator(response.fields.begin()),
                  std::make_move_iterator(response.fields.end()));
    const bool empty = response.body.empty();
    outbox.push_plain(std::move(response.body));
    Http2Stream::ended = true;
    connection_.session().respond(*this, fields, empty);
    connection_.schedule();
  }

  Http2WebConnection& connection_;
  HttpRequest request_;
  HttpFields fields_;
  std::string target_;
  size_t headers_ = 0;
  bool headers_done_ = false;
  bool body_ = false;
  bool asked_ = false;
  bool head_ = false;
  bool answered_ = false;
  bool closed_ = false;
  Timer timer_;
  Pending<HttpResponse> response_;
};

Http2WebConnection::Http2WebConnection(Loop& loop, std::unique_ptr<Stream> stream, Peer peer,
                                       HttpConnectionOwner& owner)
    : Http2Connection(loop, std::move(stream), Http2Session::Side::server, kWindows),
      owner_(owner),
      peer_(std::move(peer)),
      timer_(loop),
      idle_since_ms_(loop.now_ms()) {
  timer_.start<&Http2WebConnection::on_timeout>(limits::kHttpHeadMs, this);
  start_reading();
}

Http2WebConnection::~Http2WebConnection() = default;

Http2Stream* Http2WebConnection::on_request(int32_t id) {
  if (exchanges_.size() >= kStreams) return nullptr;
  timer_.stop();
  return (exchanges_[id] = std::make_unique<Http2Exchange>(*this)).get();
}

void Http2WebConnection::on_settings() {
  if (std::exchange(open_, true) || !exchanges_.empty()) return;
  timer_.start<&Http2WebConnection::on_timeout>(limits::kHttpIdleMs, this);
}

void Http2WebConnection::on_timeout() {
  if (open_) return drain();
  owner_.on_abuse(peer_, Error{Code::deadline_exceeded,
                               "no HTTP/2 preface within " + std::to_string(limits::kHttpHeadMs / 1000) + " s"});
  lose(Error{Code::deadline_exceeded, "no HTTP/2 preface"});
}

void Http2WebConnection::drain() {
  if (lost() || std::exchange(draining_, true)) return;
  timer_.stop();
  session().goaway();
  schedule();
}

void Http2WebConnection::on_turn_end() {
  if (session().finished() || (draining_ && exchanges_.empty())) close_gracefully();
}

void Http2WebConnection::on_lost(Error) {
  timer_.stop();
  owner_.on_connection_over(peer_.connection);
}

void Http2WebConnection::remove(Http2Exchange& exchange) {
  session().forget_stream(exchange);
  exchanges_.erase(exchange.id);
  if (!exchanges_.empty()) return;
  idle_since_ms_ = loop().now_ms();
  if (!draining_ && !lost()) timer_.start<&Http2WebConnection::on_timeout>(limits::kHttpIdleMs, this);
}

}  // namespace

std::unique_ptr<HttpConnection> http2_connection(Loop& loop, std::unique_ptr<Stream> stream, Peer peer,
                                                 HttpConnectionOwner& owner) {
  return std::make_unique<Http2WebConnection>(loop, std::move(stream), std::move(peer), owner);
}

}  // namespace limpet::wire
