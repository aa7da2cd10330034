// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 (and 1.0) on one accepted connection: one request at a time; what a client sends ahead waits.
#include <algorithm>

#include "wire/http1_parser.h"
#include "wire/http_connection.h"

namespace limpet::wire {
namespace {

constexpr int64_t kLingerMs = 1'000;       // so that the last answer is read before the connection is reset
constexpr size_t kLingerBytes = 1u << 20;  // what a client may still send meanwhile, unread
constexpr size_t kAheadBytes = 64u << 10;  // sent ahead of the answer; reading stops, so more is a stream's mistake

class Http1Connection final : public HttpConnection, private StreamReader {
 public:
  Http1Connection(Loop& loop, std::unique_ptr<Stream> stream, Peer peer, bool tls, HttpConnectionOwner& owner)
      : loop_(loop),
        owner_(owner),
        peer_(std::move(peer)),
        tls_(tls),
        parser_(Http1Parser::Side::request, 0),
        timer_(loop),
        idle_since_ms_(loop.now_ms()),
        stream_(std::move(stream)) {
    timer_.start<&Http1Connection::on_timeout>(limits::kHttpHeadMs, this);  // the first request comes at once
    stream_->read(*this);
  }

  void drain() override {
    last_ = true;
    if (phase_ == Phase::request && !parser_.started()) close();
  }
  [[nodiscard]] bool busy() const override { return phase_ == Phase::handler || phase_ == Phase::answer; }
  [[nodiscard]] int64_t idle_since_ms() const override { return idle_since_ms_; }

 private:
  enum class Phase { request, handler, answer, linger, over };

  // ---- 1. a request arrives ----
  void on_bytes(BytesView bytes) override {
    switch (phase_) {
      case Phase::request:
        return parse(bytes);
      case Phase::handler:
      case Phase::answer:
        append(ahead_, bytes);
        if (ahead_.size() > kAheadBytes) over();
        return;
      case Phase::linger:
        lingered_ += bytes.size();
        if (lingered_ > kLingerBytes) over();
        return;
      case Phase::over:
        return;
    }
  }
  void parse(BytesView bytes) {
    const bool begun = parser_.started();
    auto taken = parser_.feed(bytes);
    if (!taken) {
      owner_.on_abuse(peer_, taken.error());
      last_ = true;
      return answer(http_text(parser_.refusal(), taken.error().message + '\n'));
    }
    if (!parser_.done()) {
      if (!begun && parser_.started()) timer_.start<&Http1Connection::on_timeout>(limits::kHttpHeadMs, this);
      return;
    }
    ahead_ = to_bytes(bytes.subspan(*taken));
    stream_->pause();
    judge(parser_.take());
  }

  // ---- 2. the handler ----
  void judge(Http1Message message) {
    if (!message.keep_alive) last_ = true;
    head_ = message.method == "HEAD";
    HttpRequest request;
    request.method = std::move(message.method);
    request.fields = std::move(message.fields);
    request.host = find_field(request.fields, "host");
    request.tls = tls_;
    const auto hosts = std::ranges::count_if(request.fields, [](const auto& field) { return field.first == "host"; });
    if (hosts > 1 || (hosts == 0 && message.minor > 0)) {  // RFC 9112 3.2
      last_ = true;
      return answer(http_text(400, "exactly one Host field is required\n"));
    }
    if (auto refusal = judge_request(request, message.target)) return answer(std::move(*refusal));
    asked_ = request.fields;
    request.peer = peer_;
    phase_ = Phase::handler;
    timer_.start<&Http1Connection::on_timeout>(limits::kHttpAnswerMs, this);
    owner_.handler().handle(std::move(request), response_.then<&Http1Connection::on_response>(this));
  }
  void on_response(Result<HttpResponse> response) { answer(response_or_error(std::move(response))); }

  // ---- 3. the answer ----
  void answer(HttpResponse response) {
    phase_ = Phase::answer;
    finish_response(response, head_, asked_, owner_.clock().now());
    HttpFields().swap(asked_);
    std::string head = "HTTP/1.1 " + std::to_string(response.status) + ' ' + std::string(http_reason(response.status));
    for (const auto& [name, value] : response.fields) head += "\r\n" + name + ": " + value;
    head += last_ ? "\r\nconnection: close\r\n\r\n" : "\r\n\r\n";
    Bytes out = to_bytes(head);
    append(out, response.body);
    timer_.start<&Http1Connection::on_timeout>(limits::kHttpAnswerMs, this);
    stream_->write(std::move(out), written_.then<&Http1Connection::on_written>(this));
  }
  void on_written(Result<void> written) {
    if (!written) return over();
    head_ = false;
    idle_since_ms_ = loop_.now_ms();
    if (last_) return close();
    phase_ = Phase::request;
    timer_.start<&Http1Connection::on_timeout>(limits::kHttpIdleMs, this);
    if (!ahead_.empty()) {
      const Bytes ahead = std::exchange(ahead_, {});
      parse(ahead);
    }
    if (phase_ == Phase::request) stream_->read(*this);
  }

  // ---- the end ----
  void on_timeout() {
    switch (phase_) {
      case Phase::request:
        if (!parser_.started()) return close();
        owner_.on_abuse(peer_, Error{Code::deadline_exceeded,
                                     "no whole request within " + std::to_string(limits::kHttpHeadMs / 1000) + " s"});
        last_ = true;
        return answer(http_text(408, "no whole request in time\n"));
      case Phase::handler:
        response_.drop();
        return answer(http_text(503, "service unavailable\n"));
      case Phase::answer:
      case Phase::linger:
      case Phase::over:
        return over();
    }
  }
  // Half-close, then read on for a moment: closing over unread bytes would take the answer from the client.
  void close() {
    phase_ = Phase::linger;
    Bytes().swap(ahead_);
    timer_.start<&Http1Connection::on_timeout>(kLingerMs, this);
    stream_->shutdown(shut_.then<&Http1Connection::on_shut>(this));
    if (!ended_) stream_->read(*this);
  }
  void on_shut(Result<void> shut) {
    if (!shut || ended_) over();
  }
  void on_end(std::optional<Error> error) override {
    stream_->pause();
    ended_ = true;
    if (phase_ == Phase::handler || phase_ == Phase::answer) {
      last_ = true;  // a client may half-close once it has asked
      if (!error) return;
    }
    over();
  }
  void over() {
    if (std::exchange(phase_, Phase::over) == Phase::over) return;
    timer_.stop();
    response_.drop();
    stream_->pause();
    owner_.on_connection_over(peer_.connection);
  }

  Loop& loop_;
  HttpConnectionOwner& owner_;
  Peer peer_;
  bool tls_;
  Phase phase_ = Phase::request;
  Http1Parser parser_;
  Bytes ahead_;       // sent before the answer to the request in hand
  HttpFields asked_;  // of the request in hand: what makes it conditional
  bool head_ = false;
  bool last_ = false;   // the connection ends with this answer
  bool ended_ = false;  // the client closed its half
  size_t lingered_ = 0;
  Timer timer_;
  int64_t idle_since_ms_;
  Pending<HttpResponse> response_;
  Pending<void> written_;
  Pending<void> shut_;
  std::unique_ptr<Stream> stream_;  // last: stops calling us first
};

}  // namespace

std::unique_ptr<HttpConnection> http1_connection(Loop& loop, std::unique_ptr<Stream> stream, Peer peer, bool tls,
                                                 HttpConnectionOwner& owner) {
  return std::make_unique<Http1Connection>(loop, std::move(stream), std::move(peer), tls, owner);
}

}  // namespace limpet::wire
