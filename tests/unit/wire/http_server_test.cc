// SPDX-License-Identifier: Apache-2.0
// The HTTP server over memory streams on a fake loop: HTTP/1.1 as bytes, HTTP/2 through a client session, bounds and
// time.
#include "wire/http_server.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "loop/fake_loop.h"
#include "loop/fake_stream.h"
#include "test_identity.h"
#include "wire/http2_connection.h"
#include "wire/tls_session.h"

namespace limpet::wire {
namespace {

struct TestHandler final : HttpHandler {
  explicit TestHandler(Loop& l) : loop(l) {}
  void handle(HttpRequest request, Done<HttpResponse> done) override {
    ++asked;
    last = request;
    if (request.path == "/never") {
      held.push_back(std::move(done));
      return;
    }
    if (request.path == "/error") {
      return loop.post([d = std::move(done)]() mutable { d(fail(Code::internal, "secret text")); });
    }
    if (request.path == "/busy") {
      return loop.post([d = std::move(done)]() mutable { d(fail(Code::unavailable, "secret text")); });
    }
    HttpResponse response = http_text(request.path == "/none" ? 404 : 200, std::string(size, 'x') + request.path);
    response.fields.emplace_back("etag", "\"tag\"");
    http_answer(loop, std::move(done), std::move(response));
  }
  Loop& loop;
  int asked = 0;
  size_t size = 0;
  HttpRequest last;
  std::vector<Done<HttpResponse>> held;
};

struct Events final : HttpServerEvents {
  void on_connection_refused(const Peer&, const Error& why) override { refused.push_back(why.message); }
  std::vector<std::string> refused;
};

struct Client final : StreamReader {
  explicit Client(std::unique_ptr<Stream> s) : stream(std::move(s)) { stream->read(*this); }
  void on_bytes(BytesView bytes) override { text += as_text(bytes); }
  void on_end(std::optional<Error>) override { ended = true; }
  void send(std::string_view more) { stream->write(to_bytes(more), Done<void>()); }
  std::string text;
  bool ended = false;
  std::unique_ptr<Stream> stream;
};

class HttpServerTest : public testing::Test {
 protected:
  HttpServerTest() { serve({}); }
  void serve(HttpServerOptions options) {
    server.reset();
    server = std::make_unique<HttpServer>(loop, clock, options, handler, &events);
  }
  Client connect(size_t chunk = 64u << 10) {
    auto pair = connect_memory(loop);
    pair.b->chunk = chunk;
    server->on_connection(std::move(pair.b));
    return Client(std::move(pair.a));
  }
  void settle() {
    for (int i = 0; i < 50; ++i) loop.advance(0), loop.run_ready();
  }
  std::string ask(std::string_view request, size_t chunk = 64u << 10) {
    Client client = connect(chunk);
    client.send(request);
    settle();
    return client.text;
  }

  FakeLoop loop;
  FakeClock clock{1'764'108'000};  // Tue, 25 Nov 2025 22:00:00 GMT
  TestHandler handler{loop};
  Events events;
  std::unique_ptr<HttpServer> server;
};

bool begins(const std::string& text, std::string_view with) { return text.starts_with(with); }

TEST_F(HttpServerTest, AGetIsAnsweredByteForByte) {
  const std::string expected =
      "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\netag: \"tag\"\r\n"
      "date: Tue, 25 Nov 2025 22:00:00 GMT\r\ncontent-length: 5\r\n\r\n/keys";
  for (const size_t chunk : {size_t{64} << 10, size_t{1}}) {
    EXPECT_EQ(ask("GET /keys?a=b HTTP/1.1\r\nHost: example.org\r\nX: y\r\n\r\n", chunk), expected);
  }
  EXPECT_EQ(handler.last.query, "a=b");
  EXPECT_EQ(handler.last.host, "example.org");
  EXPECT_FALSE(handler.last.tls);
}

TEST_F(HttpServerTest, WhatTheServerAnswersItselfNeverReachesTheHandler) {
  const struct {
    const char* request;
    const char* status;
  } cases[] = {
      {"POST / HTTP/1.1\r\nhost: a\r\n\r\n", "405 Method Not Allowed"},
      {"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", "405 Method Not Allowed"},
      {"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", "405 Method Not Allowed"},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx", "413 Content Too Large"},
      {"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "413 Content Too Large"},
      {"GET / HTTP/1.1\r\n\r\n", "400 Bad Request"},
      {"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400 Bad Request"},
      {"GET nowhere HTTP/1.1\r\nhost: a\r\n\r\n", "400 Bad Request"},
      {"garbage\r\n\r\n", "400 Bad Request"},
  };
  for (const auto& c : cases) {
    EXPECT_TRUE(begins(ask(c.request), std::string("HTTP/1.1 ") + c.status)) << c.request << ask(c.request);
  }
  EXPECT_EQ(handler.asked, 0);
  settle();
}

TEST_F(HttpServerTest, AnErrorOfTheHandlerKeepsItsTextToItself) {
  EXPECT_TRUE(begins(ask("GET /error HTTP/1.1\r\nhost: a\r\n\r\n"), "HTTP/1.1 500 "));
  EXPECT_TRUE(begins(ask("GET /busy HTTP/1.1\r\nhost: a\r\n\r\n"), "HTTP/1.1 503 "));
  EXPECT_EQ(ask("GET /error HTTP/1.1\r\nhost: a\r\n\r\n").find("secret"), std::string::npos);
}

TEST_F(HttpServerTest, ConditionalRequestsGet304WithoutABody) {
  const struct {
    const char* condition;
    bool same;
  } cases[] = {
      {"if-none-match: \"tag\"", true}, {"If-None-Match: \"x\", W/\"tag\"", true},
      {"if-none-match: *", true},       {"if-none-match: \"other\"", false},
      {"if-none-match: tag", false},    {"if-modified-since: Tue, 25 Nov 2025 22:00:00 GMT", false},
  };
  for (const auto& c : cases) {
    const std::string answer = ask(std::string("GET /a HTTP/1.1\r\nhost: a\r\n") + c.condition + "\r\n\r\n");
    EXPECT_TRUE(begins(answer, c.same ? "HTTP/1.1 304 Not Modified\r\netag: \"tag\"" : "HTTP/1.1 200 OK")) << answer;
    EXPECT_EQ(answer.ends_with("\r\n\r\n"), c.same) << c.condition;
  }
  EXPECT_TRUE(begins(ask("GET /none HTTP/1.1\r\nhost: a\r\nif-none-match: *\r\n\r\n"), "HTTP/1.1 404 Not Found"));
}

TEST_F(HttpServerTest, HeadTellsTheLengthAndSendsNoBody) {
  const std::string answer = ask("HEAD /keys HTTP/1.1\r\nhost: a\r\n\r\n");
  EXPECT_NE(answer.find("content-length: 5\r\n\r\n"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("\r\n\r\n"));
}

TEST_F(HttpServerTest, RequestsSentAheadAreAnsweredInOrder) {
  for (const size_t chunk : {size_t{64} << 10, size_t{1}, size_t{17}}) {
    Client client = connect(chunk);
    std::string text;
    for (int i = 0; i < 5; ++i) text += "GET /" + std::to_string(i) + " HTTP/1.1\r\nhost: a\r\n\r\n";
    client.send(text + "GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nGET /no HTTP/1.1\r\nhost: a\r\n\r\n");
    for (int i = 0; i < 20; ++i) settle();
    size_t at = 0;
    for (const char* path : {"/0", "/1", "/2", "/3", "/4", "/last"}) {
      at = client.text.find(std::string("\r\n\r\n") + path, at);
      ASSERT_NE(at, std::string::npos) << path << client.text;
    }
    EXPECT_EQ(client.text.find("/no"), std::string::npos);
    loop.advance(2'000);
    settle();
    EXPECT_TRUE(client.ended);
  }
  EXPECT_EQ(server->connections(), 0u);
}

TEST_F(HttpServerTest, AnHttp10ClientIsAnsweredAndLetGo) {
  Client client = connect();
  client.send("GET /old HTTP/1.0\r\n\r\n");
  settle();
  EXPECT_NE(client.text.find("connection: close\r\n\r\n/old"), std::string::npos);
  EXPECT_TRUE(client.ended);
}

TEST_F(HttpServerTest, TheAbsoluteFormOfATargetIsTaken) {
  const struct {
    const char* target;
    const char* path;
  } cases[] = {{"http://x/keys", "/keys"}, {"https://x:1/a?b", "/a"}, {"http://x", "/"}, {"http://x?q", "/"}};
  for (const auto& c : cases) {
    ask(std::string("GET ") + c.target + " HTTP/1.1\r\nhost: a\r\n\r\n");
    EXPECT_EQ(handler.last.path, c.path) << c.target;
  }
}

TEST_F(HttpServerTest, SlowClientsLoseTheirConnection) {
  Client silent = connect();
  Client slow = connect();
  slow.send("GET / HTTP/1.1\r\n");
  Client idle = connect();
  idle.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  settle();
  EXPECT_EQ(server->connections(), 3u);
  loop.advance(limits::kHttpHeadMs + 2'000);
  settle();
  EXPECT_TRUE(silent.ended);
  EXPECT_TRUE(begins(slow.text, "HTTP/1.1 408 "));
  EXPECT_TRUE(slow.ended);
  EXPECT_FALSE(idle.ended);
  EXPECT_EQ(server->connections(), 1u);
  loop.advance(limits::kHttpIdleMs);
  settle();
  EXPECT_TRUE(idle.ended);
  loop.advance(2'000);
  settle();
  EXPECT_EQ(server->connections(), 0u);
}

TEST_F(HttpServerTest, AHandlerThatDoesNotAnswerIsGivenUp) {
  Client client = connect();
  client.send("GET /never HTTP/1.1\r\nhost: a\r\n\r\n");
  settle();
  EXPECT_EQ(client.text, "");
  loop.advance(limits::kHttpAnswerMs);
  settle();
  EXPECT_TRUE(begins(client.text, "HTTP/1.1 503 "));
  ASSERT_EQ(handler.held.size(), 1u);
  EXPECT_FALSE(handler.held[0].wanted());
}

TEST_F(HttpServerTest, ConnectionsAreBoundedAndTheIdleOneMakesRoom) {
  serve({.max_connections = 2, .max_connections_per_peer = 2});
  Client first = connect();
  Client second = connect();
  settle();
  Client third = connect();  // both are too young to be shed
  settle();
  EXPECT_TRUE(third.ended);
  ASSERT_EQ(events.refused.size(), 1u);
  EXPECT_NE(events.refused[0].find("at most 2"), std::string::npos);
  loop.advance(3'000);
  Client fourth = connect();
  settle();
  EXPECT_TRUE(first.ended);
  EXPECT_FALSE(second.ended);
  fourth.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  settle();
  EXPECT_TRUE(begins(fourth.text, "HTTP/1.1 200"));
  EXPECT_EQ(server->connections(), 2u);
}

struct Stopped {
  Pending<void> pending;
  bool done = false;
  void on_done(Result<void>) { done = true; }
};

TEST_F(HttpServerTest, StoppingLetsAnAnswerInFlightGoOut) {
  Client idle = connect();
  Client waiting = connect();
  waiting.send("GET /never HTTP/1.1\r\nhost: a\r\n\r\n");
  settle();
  Stopped stopped;
  server->stop(10'000, stopped.pending.then<&Stopped::on_done>(&stopped));
  settle();
  loop.advance(1'000);
  settle();
  EXPECT_TRUE(idle.ended);
  EXPECT_FALSE(stopped.done);
  handler.held[0](http_text(200, "late"));
  settle();
  EXPECT_NE(waiting.text.find("connection: close\r\n\r\nlate"), std::string::npos);
  loop.advance(2'000);
  settle();
  EXPECT_TRUE(stopped.done);
}

TEST_F(HttpServerTest, TheServerMayDieAtEveryStep) {
  for (int steps = 0; steps < 40; ++steps) {
    serve({});
    Client client = connect(11);
    client.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /never HTTP/1.1\r\nhost: a\r\n\r\n");
    for (int i = 0; i < steps; ++i) loop.run_one();
    server.reset();
    settle();
    EXPECT_TRUE(client.ended) << steps;
    handler.held.clear();
  }
}

// ---- TLS and HTTP/2 ----

// One HTTP/2 request of a client's session.
struct H2Call final : Http2Call {
  void on_header(std::string_view name, std::string_view value) override { fields.emplace_back(name, value); }
  void on_headers_done() override {}
  void on_data(BytesView bytes) override { append(body, bytes); }
  void on_peer_done() override { over = true; }
  void on_closed(uint32_t code) override { closed = code; }
  void on_taken() override {}
  void deliver() override {}
  HttpFields fields;
  Bytes body;
  bool over = false;
  std::optional<uint32_t> closed;
};

class H2Client final : public Http2Connection {
 public:
  H2Client(Loop& loop, std::unique_ptr<Stream> stream)
      : Http2Connection(loop, std::move(stream), Http2Session::Side::client,
                        {.stream = 1 << 20, .connection = 1 << 20}) {
    start_reading();
  }
  void ask(H2Call& call, const char* method, const std::string& path, const HttpFields& more = {},
           std::string body = {}) {
    HeaderFields fields{{":method", method}, {":scheme", "https"}, {":authority", "example.org"}, {":path", path}};
    fields.insert(fields.end(), more.begin(), more.end());
    call.outbox.push_plain(to_bytes(body));
    call.ended = true;
    session().request(call, fields);
    schedule();
  }
  bool gone = false;

 private:
  Http2Stream* on_request(int32_t) override { return nullptr; }
  void on_settings() override {}
  void on_goaway(int32_t, uint32_t, BytesView) override {}
  void on_lost(Error) override { gone = true; }
};

struct Secured final {
  std::optional<TlsConnected> connected;
  std::optional<Error> error;
  std::unique_ptr<TlsHandshake> handshake;
  Pending<TlsConnected> pending;
  void on_done(Result<TlsConnected> result) {
    if (result) {
      connected = std::move(*result);
    } else {
      error = result.error();
    }
  }
};

class HttpsServerTest : public HttpServerTest {
 protected:
  HttpsServerTest() {
    static const auto kServer = make_identity("spiffe://example.org/spire/server");
    policy.mine = kServer;
    policy.rules = nullptr;  // a server that asks for no certificate needs no verifier
    serve({.tls = &policy});
  }
  std::unique_ptr<Stream> secure(TlsEndpoint endpoint) {
    contexts = std::make_unique<TlsContexts>(std::move(endpoint));
    auto pair = connect_memory(loop);
    server->on_connection(std::move(pair.b));
    secured = std::make_unique<Secured>();
    secured->handshake = TlsHandshake::connect(loop, *contexts, client_policy, std::move(pair.a),
                                               secured->pending.then<&Secured::on_done>(secured.get()));
    settle();
    return secured->connected ? std::move(secured->connected->stream) : nullptr;
  }
  TestPolicy policy, client_policy;
  std::unique_ptr<TlsContexts> contexts;
  std::unique_ptr<Secured> secured;
};

TEST_F(HttpsServerTest, Http11IsSpokenWhereAlpnSaysSo) {
  auto stream = secure({.protocols = TlsProtocols::http, .server_name = "example.org"});
  ASSERT_TRUE(stream);
  Client client(std::move(stream));
  client.send("GET /s HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n");
  settle();
  EXPECT_TRUE(begins(client.text, "HTTP/1.1 200 OK")) << client.text;
  EXPECT_TRUE(handler.last.tls);
  EXPECT_TRUE(handler.last.peer.chain.empty());
  EXPECT_TRUE(client.ended);
}

TEST_F(HttpsServerTest, Http2IsSpokenWhereAlpnSaysSo) {
  handler.size = 200'000;
  auto stream = secure({});
  ASSERT_TRUE(stream);
  H2Client client(loop, std::move(stream));
  H2Call get, head, none, post, body, same, error;
  client.ask(get, "GET", "/keys?q=1");
  settle();
  EXPECT_EQ(handler.last.host, "example.org");
  EXPECT_EQ(handler.last.query, "q=1");
  handler.size = 0;
  client.ask(head, "HEAD", "/keys");
  client.ask(none, "GET", "/none");
  client.ask(post, "POST", "/keys");
  client.ask(body, "GET", "/keys", {}, "unwanted");
  client.ask(same, "GET", "/keys", {{"if-none-match", "\"tag\""}});
  client.ask(error, "GET", "/error");
  settle();
  const struct {
    const H2Call* call;
    const char* status;
  } cases[] = {{&get, "200"},  {&head, "200"}, {&none, "404"}, {&post, "405"},
               {&body, "413"}, {&same, "304"}, {&error, "500"}};
  for (const auto& c : cases) {
    EXPECT_EQ(find_field(c.call->fields, ":status"), c.status);
    EXPECT_TRUE(c.call->over) << c.status;
    EXPECT_TRUE(c.call->closed) << c.status;
  }
  EXPECT_EQ(get.body.size(), 200'005u);
  EXPECT_TRUE(head.body.empty());
  EXPECT_EQ(find_field(head.fields, "content-length"), "5");
  EXPECT_TRUE(same.body.empty());
  for (H2Call* call : {&get, &head, &none, &post, &body, &same, &error}) client.session().forget_stream(*call);
}

TEST_F(HttpsServerTest, AnIdleHttp2ConnectionIsClosedAfterItsTime) {
  auto stream = secure({});
  ASSERT_TRUE(stream);
  H2Client client(loop, std::move(stream));
  settle();
  EXPECT_EQ(server->connections(), 1u);
  loop.advance(limits::kHttpIdleMs);
  settle();
  EXPECT_TRUE(client.gone);
  EXPECT_EQ(server->connections(), 0u);
}

TEST_F(HttpsServerTest, TooLargeHeadersGet431) {
  auto stream = secure({});
  ASSERT_TRUE(stream);
  H2Client client(loop, std::move(stream));
  H2Call many;
  HttpFields fields;
  for (size_t i = 0; i <= limits::kHttpHeaders; ++i) fields.emplace_back("x", "y");
  client.ask(many, "GET", "/", fields);
  settle();
  EXPECT_EQ(find_field(many.fields, ":status"), "431");
  EXPECT_EQ(handler.asked, 0);
  client.session().forget_stream(many);
}

TEST_F(HttpsServerTest, AServerWithoutACertificateRefusesAndSaysSo) {
  policy.mine = nullptr;
  EXPECT_FALSE(secure({.protocols = TlsProtocols::http}));
  ASSERT_EQ(events.refused.size(), 1u);
  EXPECT_NE(events.refused[0].find("no certificate yet"), std::string::npos);
}

}  // namespace
}  // namespace limpet::wire
