// SPDX-License-Identifier: Apache-2.0
// The HTTP client over memory streams: what it asks, what it takes for an answer, and what it does not.
#include "wire/http_client.h"

#include <gtest/gtest.h>

#include "loop/fake_loop.h"
#include "loop/fake_stream.h"

namespace limpet::wire {
namespace {

struct Peer final : StreamReader {
  void on_bytes(BytesView bytes) override { text += as_text(bytes); }
  void on_end(std::optional<Error>) override { ended = true; }
  std::string text;
  bool ended = false;
};

struct Asker {
  void on_reply(Result<HttpReply> result) {
    call.reset();
    if (result) {
      reply = std::move(*result);
    } else {
      error = result.error();
    }
  }
  std::optional<HttpReply> reply;
  std::optional<Error> error;
  std::unique_ptr<HttpClientCall> call;
  Pending<HttpReply> pending;
};

class HttpClientTest : public testing::Test {
 protected:
  void ask(HttpGet get, size_t chunk = 64u << 10) {
    auto pair = connect_memory(loop);
    pair.a->chunk = chunk;
    peer = Peer();
    asker = std::make_unique<Asker>();
    server = std::move(pair.b);
    server->read(peer);
    asker->call =
        HttpClientCall::start(loop, std::move(pair.a), get, asker->pending.then<&Asker::on_reply>(asker.get()));
    settle();
  }
  void answer(std::string_view text, bool close) {
    server->write(to_bytes(text), Done<void>());
    settle();
    if (close) server.reset();
    settle();
  }
  void settle() {
    for (int i = 0; i < 20; ++i) loop.advance(0), loop.run_ready();
  }
  static HttpGet get(const char* url) { return {.url = *Url::parse(url)}; }

  FakeLoop loop;
  Peer peer;
  std::unique_ptr<MemoryStream> server;
  std::unique_ptr<Asker> asker;
};

TEST_F(HttpClientTest, TheRequestNamesHostAgentAndTheCopyAtHand) {
  HttpGet request = get("https://example.org:8443/bundle?x");
  request.etag = "\"abc\"";
  request.last_modified = "Tue, 25 Nov 2025 22:00:00 GMT";
  ask(request);
  EXPECT_EQ(peer.text, "GET /bundle?x HTTP/1.1\r\nhost: example.org:8443\r\nuser-agent: limpet/" LIMPET_VERSION
                       "\r\naccept: */*\r\nconnection: close\r\nif-none-match: \"abc\"\r\n"
                       "if-modified-since: Tue, 25 Nov 2025 22:00:00 GMT\r\n\r\n");
}

TEST_F(HttpClientTest, AnswersThatAreNotBelieved) {
  const struct {
    const char* what;
    std::string text;
    Code code;
  } cases[] = {
      {"nothing", "", Code::unavailable},
      {"not HTTP", "hello\r\n\r\n", Code::invalid_argument},
      {"TLS", "\x15\x03\x01\x00\x02\x02\x0a", Code::invalid_argument},
      {"cut in the head", "HTTP/1.1 200 OK\r\ncontent", Code::invalid_argument},
      {"cut in the body", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", Code::invalid_argument},
      {"a body too large", "HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", Code::resource_exhausted},
      {"a body too large without a length", "HTTP/1.1 200 OK\r\n\r\n" + std::string(1001, 'x'),
       Code::resource_exhausted},
      {"a switch of protocols", "HTTP/1.1 101 x\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Code::invalid_argument},
      {"only interim answers", "HTTP/1.1 100 Continue\r\n\r\n", Code::unavailable},
  };
  for (const auto& c : cases) {
    for (const size_t chunk : {size_t{64} << 10, size_t{1}}) {
      HttpGet request = get("https://a/");
      request.max_body = 1000;
      ask(request, chunk);
      answer(c.text, true);
      for (int i = 0; i < 100; ++i) settle();
      ASSERT_TRUE(asker->error) << c.what;
      EXPECT_EQ(asker->error->code, c.code) << c.what << ": " << asker->error->text();
    }
  }
}

TEST_F(HttpClientTest, InterimAnswersWithoutEndAreAnError) {
  ask(get("https://a/"));
  std::string text;
  for (int i = 0; i < 11; ++i) text += "HTTP/1.1 103 Early Hints\r\n\r\n";
  answer(text, false);
  ASSERT_TRUE(asker->error);
  EXPECT_EQ(asker->error->code, Code::resource_exhausted);
}

TEST_F(HttpClientTest, AnAnswerIsTakenWithWhatKeepsItsCopy) {
  for (const size_t chunk : {size_t{64} << 10, size_t{1}}) {
    ask(get("https://a/"), chunk);
    answer(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nETag: \"v1\"\r\nLast-Modified: x\r\ncontent-length: "
        "2\r\n\r\nok",
        false);
    for (int i = 0; i < 20; ++i) settle();
    ASSERT_TRUE(asker->reply) << (asker->error ? asker->error->text() : "no answer");
    EXPECT_EQ(asker->reply->status, 200);
    EXPECT_EQ(as_text(asker->reply->body), "ok");
    EXPECT_EQ(asker->reply->etag(), "\"v1\"");
    EXPECT_EQ(asker->reply->last_modified(), "x");
    settle();
    EXPECT_TRUE(peer.ended);
  }
}

TEST_F(HttpClientTest, RedirectsAndNotModifiedAreAnswersLikeAnyOther) {
  ask(get("https://a/"));
  answer("HTTP/1.1 302 Found\r\nlocation: https://b/\r\ncontent-length: 0\r\n\r\n", false);
  ASSERT_TRUE(asker->reply);
  EXPECT_EQ(asker->reply->status, 302);
  ask(get("https://a/"));
  answer("HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\n\r\n", false);
  ASSERT_TRUE(asker->reply);
  EXPECT_EQ(asker->reply->status, 304);
}

TEST_F(HttpClientTest, AServerThatDripsIsGivenUp) {
  HttpGet request = get("https://a/");
  request.timeout_ms = 5'000;
  ask(request);
  for (int i = 0; i < 4; ++i) {
    answer(i == 0 ? "HTTP/1.1 200 OK\r\n" : "a: b\r\n", false);
    loop.advance(1'000);
    settle();
  }
  EXPECT_FALSE(asker->error);
  loop.advance(1'000);
  settle();
  ASSERT_TRUE(asker->error);
  EXPECT_EQ(asker->error->code, Code::deadline_exceeded);
}

TEST_F(HttpClientTest, TheCallMayDieAtEveryStep) {
  for (int steps = 0; steps < 20; ++steps) {
    ask(get("https://a/"), 3);
    server->write(to_bytes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), Done<void>());
    for (int i = 0; i < steps; ++i) loop.run_one();
    asker.reset();
    settle();
    EXPECT_TRUE(peer.ended) << steps;
  }
}

}  // namespace
}  // namespace limpet::wire
