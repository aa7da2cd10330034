// SPDX-License-Identifier: Apache-2.0
// HTTP/1 bytes that should not be believed, then those that should; whole and one by one.
#include "wire/http1_parser.h"

#include <gtest/gtest.h>

namespace limpet::wire {
namespace {

struct Outcome {
  std::optional<Http1Message> message;
  std::optional<Error> error;
  int refusal = 0;
  size_t taken = 0;
};

// Feeds `text` in pieces until a message is whole or something is wrong.
Outcome parse(Http1Parser::Side side, std::string_view text, size_t piece, size_t body = 100, bool finish = false) {
  Http1Parser parser(side, body);
  Outcome out;
  while (!text.empty() && !parser.done()) {
    const std::string_view now = text.substr(0, piece);
    auto taken = parser.feed(as_bytes(now));
    if (!taken) {
      out.error = taken.error();
      out.refusal = parser.refusal();
      return out;
    }
    EXPECT_LE(*taken, now.size());
    out.taken += *taken;
    text.remove_prefix(*taken);
    if (*taken == 0 && !parser.done()) break;
  }
  if (finish) {
    if (auto finished = parser.finish(); !finished) out.error = finished.error();
  }
  if (parser.done()) out.message = parser.take();
  return out;
}

std::string many_headers(size_t count) {
  std::string text = "GET / HTTP/1.1\r\n";
  for (size_t i = 0; i < count; ++i) text += "a: b\r\n";
  return text + "\r\n";
}

TEST(Http1Parser, HostileRequestsAreRefusedWithTheirStatus) {
  const std::string long_target = "GET /" + std::string(limits::kHttpTargetBytes, 'x') + " HTTP/1.1\r\n";
  const std::string long_header = "GET / HTTP/1.1\r\na: " + std::string(limits::kHeaderBytes, 'x');
  const std::string long_name = "GET / HTTP/1.1\r\n" + std::string(limits::kHeaderBytes + 1, 'x');
  const struct {
    const char* what;
    std::string text;
    int status;
  } cases[] = {
      {"no HTTP at all", "\x16\x03\x01\x02", 400},
      {"an unknown method", "FETCH / HTTP/1.1\r\n\r\n", 400},
      {"a lower-case method", "get / HTTP/1.1\r\n\r\n", 400},
      {"HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"HTTP/3.0", "GET / HTTP/3.0\r\n\r\n", 400},
      {"HTTP/0.9", "GET / HTTP/0.9\r\n\r\n", 505},
      {"a blank in the target", "GET /a b HTTP/1.1\r\n\r\n", 400},
      {"a NUL in the target", std::string("GET /a\0b HTTP/1.1\r\n\r\n", 21), 400},
      {"a control character in the target",
       "GET /a\x01"
       "b HTTP/1.1\r\n\r\n",
       400},
      {"a header without a colon", "GET / HTTP/1.1\r\nabc\r\n\r\n", 400},
      {"a blank before the colon", "GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400},
      {"a NUL in a header", std::string("GET / HTTP/1.1\r\na: b\0c\r\n\r\n", 25), 400},
      {"a lone CR in a header", "GET / HTTP/1.1\r\na: b\rc: d\r\n\r\n", 400},
      {"a header that begins with a blank", "GET / HTTP/1.1\r\n a: b\r\n\r\n", 400},
      {"two lengths that differ", "GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400},
      {"a length and chunks", "GET / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400},
      {"a negative length", "GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400},
      {"a length with a sign", "GET / HTTP/1.1\r\ncontent-length: +1\r\n\r\n", 400},
      {"a length of 2^64", "GET / HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n", 400},
      {"a length over the bound", "GET / HTTP/1.1\r\ncontent-length: 101\r\n\r\n", 413},
      {"chunks over the bound",
       "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n65\r\n" + std::string(101, 'x') + "\r\n0\r\n\r\n", 413},
      {"a chunk length that is none", "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400},
      {"a chunk length of 2^64", "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\n", 400},
      {"chunked not last", "GET / HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n", 400},
      {"a target over the bound", long_target, 414},
      {"a header over the bound", long_header, 431},
      {"a name over the bound", long_name, 431},
      {"too many headers", many_headers(limits::kHttpHeaders + 1), 431},
      {"trailers over the bound",
       "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: " + std::string(limits::kHeaderBytes, 'x'), 431},
  };
  for (const auto& c : cases) {
    for (const size_t piece : {size_t{1} << 20, size_t{1}, size_t{7}}) {
      const Outcome out = parse(Http1Parser::Side::request, c.text, piece);
      ASSERT_TRUE(out.error) << c.what << ", pieces of " << piece;
      EXPECT_EQ(out.refusal, c.status) << c.what << ": " << out.error->message;
      EXPECT_FALSE(out.message) << c.what;
    }
  }
}

TEST(Http1Parser, HostileResponsesAreRefused) {
  const struct {
    const char* what;
    std::string text;
  } cases[] = {
      {"no status", "HTTP/1.1\r\n\r\n"},
      {"a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"},
      {"a request", "GET / HTTP/1.1\r\n\r\n"},
      {"a switch of protocols", "HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"},
      {"HTTP/2 in the clear", "HTTP/2.0 200 OK\r\n\r\n"},
      {"a length over the bound", "HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n"},
      {"a body until the end over the bound", "HTTP/1.1 200 OK\r\n\r\n" + std::string(101, 'x')},
      {"two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1, 2\r\n\r\nx"},
      {"cut within the head", "HTTP/1.1 200 OK\r\ncontent-le"},
      {"cut within the body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"},
      {"cut within chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"},
      {"cut before the last chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n"},
      {"nothing", ""},
  };
  for (const auto& c : cases) {
    for (const size_t piece : {size_t{1} << 20, size_t{1}}) {
      const Outcome out = parse(Http1Parser::Side::response, c.text, piece, 100, true);
      EXPECT_TRUE(out.error) << c.what << ", pieces of " << piece;
    }
  }
}

TEST(Http1Parser, ARequestIsReadAndWhatFollowsIsLeft) {
  const std::string first = "GET /keys?x=1 HTTP/1.1\r\nHost: example.org\r\nIf-None-Match: \"a\"\r\n\r\n";
  for (const size_t piece : {size_t{1} << 20, size_t{1}, size_t{5}}) {
    const Outcome out = parse(Http1Parser::Side::request, first + "GET /second HTTP/1.1\r\n\r\n", piece);
    ASSERT_TRUE(out.message) << (out.error ? out.error->message : "");
    EXPECT_EQ(out.taken, first.size());
    EXPECT_EQ(out.message->method, "GET");
    EXPECT_EQ(out.message->target, "/keys?x=1");
    EXPECT_TRUE(out.message->keep_alive);
    EXPECT_EQ(out.message->fields, (HttpFields{{"host", "example.org"}, {"if-none-match", "\"a\""}}));
  }
}

TEST(Http1Parser, TheParserServesManyMessagesInARow) {
  Http1Parser parser(Http1Parser::Side::request, 0);
  const std::string text =
      "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n\r\nHEAD /2 HTTP/1.0\r\n\r\nGET /3 HTTP/1.1\r\n"
      "upgrade: h2c\r\nconnection: upgrade\r\n\r\nGET /4 HTTP/1.1\r\n\r\n";
  std::string_view rest = text;
  std::string seen;
  while (!rest.empty()) {
    auto taken = parser.feed(as_bytes(rest));
    ASSERT_TRUE(taken) << taken.error().message << " at " << rest;
    rest.remove_prefix(*taken);
    if (!parser.done()) continue;
    const Http1Message message = parser.take();
    seen += message.method + message.target + (message.keep_alive ? "+ " : "- ");
  }
  EXPECT_EQ(seen, "GET/1+ HEAD/2- GET/3+ GET/4+ ");
}

TEST(Http1Parser, ResponsesEndAsTheirHeadsSay) {
  const struct {
    const char* what;
    std::string text;
    int status;
    std::string body;
  } cases[] = {
      {"a length", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", 200, "abc"},
      {"chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nt: u\r\n\r\n", 200,
       "abc"},
      {"the end of the stream", "HTTP/1.0 200 OK\r\n\r\nabc", 200, "abc"},
      {"not modified", "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\netag: \"x\"\r\n\r\n", 304, ""},
      {"no reason phrase", "HTTP/1.1 404 \r\ncontent-length: 0\r\n\r\n", 404, ""},
      {"an interim response", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", 103, ""},
  };
  for (const auto& c : cases) {
    for (const size_t piece : {size_t{1} << 20, size_t{1}}) {
      const Outcome out = parse(Http1Parser::Side::response, c.text, piece, 100, true);
      ASSERT_TRUE(out.message) << c.what << (out.error ? out.error->message : "");
      EXPECT_EQ(out.message->status, c.status) << c.what;
      EXPECT_EQ(as_text(out.message->body), c.body) << c.what;
    }
  }
}

}  // namespace
}  // namespace limpet::wire
