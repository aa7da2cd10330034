// SPDX-License-Identifier: Apache-2.0
// HTTP from strangers: raw bytes to a server over HTTP/1 and over HTTP/2, and as the answer to a client. The first byte
// says which and in what pieces. The HTTP/1 parser must see the same messages however the bytes are cut.
#include <string>
#include <string_view>

#include "fuzz.h"
#include "loop/fake_loop.h"
#include "loop/fake_stream.h"
#include "wire/http1_parser.h"
#include "wire/http_client.h"
#include "wire/http_connection.h"
#include "wire/http_server.h"

namespace limpet::wire {
namespace {

constexpr std::string_view kPreface("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);

class Sink final : public StreamReader {
 public:
  void on_bytes(BytesView) override {}
  void on_end(std::optional<Error>) override {}
};

class Answers final : public HttpHandler {
 public:
  explicit Answers(Loop& loop) : loop_(loop) {}
  void handle(HttpRequest request, Done<HttpResponse> done) override {
    FUZZ_CHECK(request.path.starts_with('/'));
    FUZZ_CHECK(request.method == "GET" || request.method == "HEAD");
    if (request.path == "/n") return;  // drops it
    HttpResponse response = http_text(200, request.path);
    response.fields.emplace_back("etag", "\"a\"");
    http_answer(loop_, std::move(done), std::move(response));
  }

 private:
  Loop& loop_;
};

class Owner final : public HttpConnectionOwner {
 public:
  Owner(Loop& loop) : answers_(loop) {}
  HttpHandler& handler() override { return answers_; }
  const Clock& clock() override { return clock_; }
  void on_connection_over(uint64_t) override { over = true; }
  void on_abuse(const Peer&, const Error&) override {}
  bool over = false;

 private:
  FakeClock clock_{1'700'000'000};
  Answers answers_;
};

void serve(uint8_t how, BytesView input) {
  FakeLoop loop;
  FakeClock clock(1'700'000'000);
  Answers answers(loop);
  Sink sink;
  HttpServer server(loop, clock, {}, answers);
  auto pair = connect_memory(loop);
  pair.b->chunk = (how & 4) != 0 ? 1u + (how >> 3) : 64u << 10;
  pair.a->read(sink);
  server.on_connection(std::move(pair.b));
  pair.a->write(to_bytes(input), {});
  loop.run_ready();
  if ((how & 8) != 0) pair.a->shutdown({});
  loop.advance(200'000);
  FUZZ_CHECK(server.connections() == 0);
}

void serve_http2(uint8_t how, BytesView input) {
  FakeLoop loop;
  Owner owner(loop);
  Sink sink;
  auto pair = connect_memory(loop);
  pair.b->chunk = (how & 4) != 0 ? 1u + (how >> 3) : 64u << 10;
  pair.a->read(sink);
  auto connection = http2_connection(loop, std::move(pair.b), {}, owner);
  pair.a->write(to_bytes(kPreface), {});
  pair.a->write(to_bytes(input), {});
  loop.run_ready();
  if ((how & 8) != 0) connection->drain();
  loop.advance(5'000);
  if ((how & 16) != 0) pair.a->cut();
  loop.advance(200'000);
  FUZZ_CHECK(owner.over || !connection->busy());
}

struct Asker {
  void on_reply(Result<HttpReply> result) {
    call.reset();
    answered = true;
  }
  bool answered = false;
  std::unique_ptr<HttpClientCall> call;
  Pending<HttpReply> pending;
};

void ask(uint8_t how, BytesView input) {
  FakeLoop loop;
  Sink sink;
  auto pair = connect_memory(loop);
  pair.a->chunk = (how & 4) != 0 ? 1u + (how >> 3) : 64u << 10;
  pair.b->read(sink);
  Asker asker;
  asker.call = HttpClientCall::start(loop, std::move(pair.a), {.url = *Url::parse("https://a/"), .max_body = 1000},
                                     asker.pending.then<&Asker::on_reply>(&asker));
  pair.b->write(to_bytes(input), {});
  loop.run_ready();
  if ((how & 8) != 0) pair.b.reset();
  loop.advance(31'000);
  FUZZ_CHECK(asker.answered);
}

// Everything the parser tells, as one text.
std::string told(Http1Parser::Side side, BytesView bytes, size_t piece) {
  Http1Parser parser(side, 1000);
  std::string text;
  while (!bytes.empty()) {
    auto taken = parser.feed(bytes.first(std::min(piece, bytes.size())));
    if (!taken) return text + "refused " + std::to_string(parser.refusal());
    bytes = bytes.subspan(*taken);
    if (!parser.done()) continue;
    const Http1Message message = parser.take();
    text += message.method + ' ' + message.target + ' ' + std::to_string(message.status);
    for (const auto& [name, value] : message.fields) text += '|' + name + ':' + value;
    text += as_text(message.body);
    text += '\n';
  }
  return text;
}

void run(BytesView input) {
  const uint8_t how = input[0];
  input = input.subspan(1);
  const auto side = (how & 3) == 2 ? Http1Parser::Side::response : Http1Parser::Side::request;
  FUZZ_CHECK(told(side, input, SIZE_MAX) == told(side, input, 1));
  if (auto url = Url::parse(as_text(input))) FUZZ_CHECK(url->target.starts_with('/') && !url->host.empty());
  switch (how & 3) {
    case 2:
      return ask(how, input);
    case 3:
      return serve_http2(how, input);
    default:
      return serve(how, input);
  }
}

}  // namespace
}  // namespace limpet::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0) limpet::wire::run({data, size});
  return 0;
}
