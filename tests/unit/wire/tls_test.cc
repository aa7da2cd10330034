// SPDX-License-Identifier: Apache-2.0
// TLS over memory streams on a fake loop: who gets through, what the other side is told, and death at every step.
#include <gtest/gtest.h>

#include "base/limits.h"
#include "loop/fake_loop.h"
#include "loop/fake_stream.h"
#include "test_identity.h"
#include "wire/tls_session.h"

namespace limpet::wire {
namespace {

struct End final : StreamReader {
  std::optional<Error> error;
  Bytes got;
  bool ended = false;
  std::optional<Error> end_error;
  std::optional<TlsConnected> connected;
  std::unique_ptr<TlsHandshake> handshake;
  Pending<TlsConnected> pending;  // last: lets go before the handshake dies

  void on_done(Result<TlsConnected> result) {
    if (result) {
      connected = std::move(*result);
      connected->stream->read(*this);
    } else {
      error = result.error();
    }
  }
  Done<TlsConnected> done() { return pending.then<&End::on_done>(this); }
  void on_bytes(BytesView bytes) override { append(got, bytes); }
  void on_end(std::optional<Error> why) override {
    ended = true;
    end_error = std::move(why);
  }
};

class TlsTest : public testing::Test {
 protected:
  TlsTest() {
    static const auto kServer = make_identity("spiffe://example.org/spire/server");
    static const auto kAgent = make_identity("spiffe://example.org/agent");
    server_policy.mine = kServer;
    client_policy.mine = kAgent;
  }
  void start() {
    auto pair = connect_memory(loop);
    wire = pair.a.get();
    server.handshake = TlsHandshake::accept(loop, server_contexts, server_policy, std::move(pair.b), server.done());
    client.handshake = TlsHandshake::connect(loop, client_contexts, client_policy, std::move(pair.a), client.done());
  }
  void settle() {
    for (int i = 0; i < 100; ++i) loop.advance(0), loop.run_ready();
  }
  FakeLoop loop;
  TlsContexts server_contexts, client_contexts;
  TestPolicy server_policy, client_policy;
  MemoryStream* wire = nullptr;
  End server, client;
};

TEST_F(TlsTest, BothSidesSeeTheOthersChainAndTalk) {
  start();
  settle();
  ASSERT_TRUE(server.connected && client.connected);
  EXPECT_EQ(server.connected->chain, client_policy.mine->chain);
  EXPECT_EQ(client.connected->chain, server_policy.mine->chain);
  client.connected->stream->write(Bytes(100'000, 'c'), {});
  server.connected->stream->write(to_bytes("hello"), {});
  settle();
  EXPECT_EQ(server.got, Bytes(100'000, 'c'));
  EXPECT_EQ(as_text(client.got), "hello");
  client.connected->stream->shutdown({});
  settle();
  EXPECT_TRUE(server.ended);
  EXPECT_FALSE(server.end_error);
}

TEST_F(TlsTest, AClientMayComeWithoutCertificate) {
  client_policy.mine = nullptr;
  start();
  settle();
  ASSERT_TRUE(server.connected);
  EXPECT_TRUE(server.connected->chain.empty());
}

TEST_F(TlsTest, TheVerifierHearsOfAMissingCertificate) {
  client_policy.mine = nullptr;
  server_policy.rules->need_chain = true;
  start();
  settle();
  loop.advance(1'000);
  settle();
  ASSERT_TRUE(server.error);
  EXPECT_EQ(server.error->message, "no certificate");
}

TEST_F(TlsTest, ARefusedClientReadsTheAlert) {
  server_policy.rules->answer = Error{Code::unauthenticated, "agent is banned"};
  start();
  settle();
  ASSERT_TRUE(client.connected);  // TLS 1.3: the client is through before the server looked at it
  EXPECT_TRUE(client.ended);
  ASSERT_TRUE(client.end_error);
  EXPECT_EQ(client.end_error->message, "remote error: tls: bad certificate");
  loop.advance(1'000);
  settle();
  ASSERT_TRUE(server.error);
  EXPECT_EQ(server.error->message, "agent is banned");
  EXPECT_FALSE(server.connected);
}

TEST_F(TlsTest, ARefusedServerNeverSeesAConnection) {
  client_policy.rules->answer = Error{Code::unauthenticated, "unexpected ID"};
  start();
  settle();
  ASSERT_TRUE(client.error);
  EXPECT_EQ(client.error->message, "unexpected ID");
  loop.advance(1'000);
  settle();
  EXPECT_TRUE(server.error);
  EXPECT_FALSE(server.connected);
}

TEST_F(TlsTest, TheSystemClockDoesNotMatter) {
  server_policy.mine = make_identity("spiffe://example.org/spire/server", KeyType::ec_p384, 1'000'000, 2'000'000);
  client_policy.mine = make_identity("spiffe://example.org/agent", KeyType::rsa_2048, 1'000'000, 2'000'000);
  start();
  settle();
  EXPECT_TRUE(server.connected && client.connected);
}

TEST_F(TlsTest, AServerWithoutIdentityOrBundleSaysSo) {
  server_policy.mine = nullptr;
  start();
  settle();
  ASSERT_TRUE(server.error);
  EXPECT_EQ(server.error->message, "the server has no certificate yet");
  EXPECT_TRUE(client.error || (loop.advance(limits::kHandshakeMs), settle(), client.error.has_value()));
}

TEST_F(TlsTest, SilenceAndJunkEndTheHandshake) {
  auto pair = connect_memory(loop);
  server.handshake = TlsHandshake::accept(loop, server_contexts, server_policy, std::move(pair.b), server.done());
  settle();
  EXPECT_FALSE(server.error);
  loop.advance(limits::kHandshakeMs + 1'000);
  settle();
  ASSERT_TRUE(server.error);
  EXPECT_EQ(server.error->code, Code::deadline_exceeded);
  for (const char* junk : {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\xff\xff junk", "\x15\x03\x03"}) {
    End end;
    auto again = connect_memory(loop);
    end.handshake = TlsHandshake::accept(loop, server_contexts, server_policy, std::move(again.b), end.done());
    again.a->write(to_bytes(junk), {});
    settle();
    again.a.reset();
    loop.advance(1'000);
    settle();
    EXPECT_TRUE(end.error) << junk;
  }
}

TEST_F(TlsTest, TheRotatedIdentityReachesTheNextHandshake) {
  start();
  settle();
  const auto renewed = make_identity("spiffe://example.org/spire/server");
  server_policy.mine = renewed;
  client.connected.reset();
  server.connected.reset();
  start();
  settle();
  ASSERT_TRUE(client.connected);
  EXPECT_EQ(client.connected->chain, renewed->chain);
}

TEST_F(TlsTest, MoreHandshakesThanPlacesAllGetTheirTurn) {
  loop.eager_workers = false;
  constexpr size_t kMany = limits::kHandshakesInFlight + 40;
  std::vector<std::unique_ptr<End>> servers, clients;
  for (size_t i = 0; i < kMany; ++i) {
    auto pair = connect_memory(loop);
    servers.push_back(std::make_unique<End>());
    clients.push_back(std::make_unique<End>());
    servers[i]->handshake =
        TlsHandshake::accept(loop, server_contexts, server_policy, std::move(pair.b), servers[i]->done());
    clients[i]->handshake =
        TlsHandshake::connect(loop, client_contexts, client_policy, std::move(pair.a), clients[i]->done());
  }
  loop.run_ready();
  EXPECT_LE(loop.run_workers(), limits::kHandshakesInFlight);
  servers[kMany - 1].reset();  // one that waits leaves
  clients[kMany - 1].reset();
  loop.eager_workers = true;
  settle();
  for (size_t i = 0; i + 1 < kMany; ++i) EXPECT_TRUE(servers[i]->connected && clients[i]->connected) << i;
}

TEST_F(TlsTest, EitherSideMayDieAtEveryStep) {
  for (const bool kill_server : {true, false}) {
    for (int steps = 0; steps < 40; ++steps) {
      auto s = std::make_unique<End>();
      auto c = std::make_unique<End>();
      auto pair = connect_memory(loop);
      s->handshake = TlsHandshake::accept(loop, server_contexts, server_policy, std::move(pair.b), s->done());
      c->handshake = TlsHandshake::connect(loop, client_contexts, client_policy, std::move(pair.a), c->done());
      for (int i = 0; i < steps; ++i) {
        if (!loop.run_one()) loop.advance(0);
      }
      (kill_server ? s : c).reset();
      settle();
      loop.advance(1'000);
      settle();
      const auto& left = kill_server ? c : s;
      EXPECT_TRUE(left->error || left->ended) << steps;
      s.reset();
      c.reset();
      settle();
    }
  }
}

}  // namespace
}  // namespace limpet::wire
