// SPDX-License-Identifier: Apache-2.0
#include "wire/http_client.h"

#include "loop/uv_stream.h"
#include "wire/http1_parser.h"
#include "wire/tls_session.h"

namespace limpet::wire {
namespace {

constexpr int kInterimReplies = 10;  // 1xx answers before the one that counts

std::string request_text(const HttpGet& request) {
  std::string text = "GET " + request.url.target + " HTTP/1.1\r\nhost: " + request.url.authority() +
                     "\r\nuser-agent: limpet/" LIMPET_VERSION "\r\naccept: */*\r\nconnection: close\r\n";
  if (!request.etag.empty()) text += "if-none-match: " + request.etag + "\r\n";
  if (!request.last_modified.empty()) text += "if-modified-since: " + request.last_modified + "\r\n";
  return text + "\r\n";
}

class Call final : public HttpClientCall, private StreamReader {
 public:
  Call(Loop& loop, std::unique_ptr<Stream> stream, const HttpGet& request, Done<HttpReply> done)
      : timer_(loop),
        parser_(Http1Parser::Side::response, request.max_body),
        done_(std::move(done)),
        stream_(std::move(stream)) {
    timer_.start<&Call::on_timeout>(request.timeout_ms, this);
    stream_->write(to_bytes(request_text(request)), written_.then<&Call::on_written>(this));
    stream_->read(*this);
  }

 private:
  void on_written(Result<void> written) {
    if (!written) end(std::unexpected(std::move(written).error()));
  }
  void on_bytes(BytesView bytes) override {
    while (!bytes.empty()) {
      auto taken = parser_.feed(bytes);
      if (!taken) return end(std::unexpected(std::move(taken).error()));
      bytes = bytes.subspan(*taken);
      if (!parser_.done()) continue;
      if (take()) return;
    }
  }
  // True: that was the answer.
  bool take() {
    Http1Message message = parser_.take();
    if (message.status < 200) {
      if (++interim_ <= kInterimReplies) return false;
      end(fail(Code::resource_exhausted, "the server sends interim responses without end"));
      return true;
    }
    HttpReply reply;
    reply.status = message.status;
    reply.fields = std::move(message.fields);
    reply.body = std::move(message.body);
    end(std::move(reply));
    return true;
  }
  void on_end(std::optional<Error> error) override {
    if (error) return end(std::unexpected(std::move(*error)));
    if (auto finished = parser_.finish(); !finished) return end(std::unexpected(std::move(finished).error()));
    if (!take()) end(fail(Code::unavailable, "EOF"));
  }
  void on_timeout() { end(fail(Code::deadline_exceeded, "the server did not answer in time")); }

  void end(Result<HttpReply> result) {
    timer_.stop();
    written_.drop();
    stream_->pause();
    Done<HttpReply> done = std::move(done_);
    done(std::move(result));  // may destroy this
  }

  Timer timer_;
  Http1Parser parser_;
  int interim_ = 0;
  Done<HttpReply> done_;
  Pending<void> written_;
  std::unique_ptr<Stream> stream_;  // last: stops calling us first
};

// Connect, TLS, the call. The asker holds nothing but his Pending, so the loop keeps the flow.
class GetFlow final : public LoopGuest {
 public:
  GetFlow(UvLoop& loop, HttpGet request, Done<HttpReply> done)
      : loop_(loop),
        request_(std::move(request)),
        contexts_({.protocols = TlsProtocols::http, .ask_certificate = false, .server_name = server_name()}),
        done_(std::move(done)),
        timer_(loop) {}

  void start() {
    timer_.start<&GetFlow::on_timeout>(request_.timeout_ms, this);
    if (request_.url.https && request_.tls == nullptr) return end(fail(Code::internal, "https without a TLS policy"));
    if (!request_.unix_path.empty()) {
      return dial_unix(loop_, request_.unix_path, connected_.then<&GetFlow::on_stream>(this));
    }
    dial_tcp(loop_, request_.url.host, request_.url.port, request_.timeout_ms,
             connected_.then<&GetFlow::on_stream>(this));
  }

 private:
  // RFC 6066: SNI carries names, never addresses.
  [[nodiscard]] std::string server_name() const {
    const std::string& host = request_.url.host;
    const bool v4 = host.find_first_not_of("0123456789.") == std::string::npos;
    return v4 || host.find(':') != std::string::npos ? std::string() : host;
  }
  // 1. the socket is connected
  void on_stream(Result<std::unique_ptr<Stream>> stream) {
    if (!stream) return end(std::unexpected(std::move(stream).error()));
    if (!done_.wanted()) return end(fail(Code::cancelled, "nobody waits"));  // the policy may be gone with the asker
    if (!request_.url.https) return ask(std::move(*stream));
    handshake_ = TlsHandshake::connect(loop_, contexts_, *request_.tls, std::move(*stream),
                                       secured_.then<&GetFlow::on_secured>(this));
  }
  // 2. TLS is through
  void on_secured(Result<TlsConnected> secured) {
    if (!secured) return end(std::unexpected(std::move(secured).error()));
    chain_ = std::move(secured->chain);
    ask(std::move(secured->stream));
  }
  void ask(std::unique_ptr<Stream> stream) {
    call_ = HttpClientCall::start(loop_, std::move(stream), request_, replied_.then<&GetFlow::on_reply>(this));
  }
  // 3. the answer
  void on_reply(Result<HttpReply> reply) {
    if (reply) reply->chain = std::move(chain_);
    end(std::move(reply));
  }
  void on_timeout() {
    const char* doing = call_ ? "waiting for the answer" : handshake_ ? "TLS handshake" : "connecting";
    end(fail(Code::deadline_exceeded, "GET " + request_.url.authority() + ": " + doing + ": timed out after " +
                                          std::to_string(request_.timeout_ms / 1000) + " s"));
  }
  void end(Result<HttpReply> result) {
    timer_.stop();
    connected_.drop();
    secured_.drop();
    replied_.drop();
    loop_.post([done = std::move(done_), answer = std::move(result)]() mutable { done(std::move(answer)); });
    loop_.dismiss(*this);
  }

  UvLoop& loop_;
  HttpGet request_;
  TlsContexts contexts_;
  std::vector<Bytes> chain_;
  Done<HttpReply> done_;
  Timer timer_;
  std::unique_ptr<TlsHandshake> handshake_;
  std::unique_ptr<HttpClientCall> call_;
  Pending<std::unique_ptr<Stream>> connected_;  // these go first, so that nothing above calls back while it dies
  Pending<TlsConnected> secured_;
  Pending<HttpReply> replied_;
};

}  // namespace

std::unique_ptr<HttpClientCall> HttpClientCall::start(Loop& loop, std::unique_ptr<Stream> stream,
                                                      const HttpGet& request, Done<HttpReply> done) {
  return std::make_unique<Call>(loop, std::move(stream), request, std::move(done));
}

void http_get(UvLoop& loop, HttpGet request, Done<HttpReply> done) {
  auto flow = std::make_unique<GetFlow>(loop, std::move(request), std::move(done));
  GetFlow& started = *flow;
  loop.keep(std::move(flow));
  started.start();
}

}  // namespace limpet::wire
