// SPDX-License-Identifier: Apache-2.0
// Our client against our server over memory streams on a fake loop: every kind of call, every way it may end.
#include <gtest/gtest.h>

#include "base/limits.h"
#include "echo_service.h"
#include "loop/fake_loop.h"
#include "loop/fake_stream.h"
#include "wire/client_channel.h"
#include "wire/grpc_server.h"

namespace limpet::wire {
namespace {

class GrpcTest : public testing::Test {
 protected:
  GrpcTest() { serve({}); }
  void serve(GrpcServerOptions options) {
    server = std::make_unique<GrpcServer>(loop, options);
    server->add("test.Echo", echo);
  }
  std::unique_ptr<ClientChannel> connect() {
    auto pair = connect_memory(loop);
    wire = pair.a.get();
    server->on_connection(std::move(pair.b));
    return std::make_unique<ClientChannel>(loop, std::move(pair.a), "localhost", std::vector<Bytes>());
  }
  void settle() {
    for (int i = 0; i < 200; ++i) loop.advance(0), loop.run_ready();
  }
  EchoClient call(std::string_view method, CallOptions options = {}) {
    return EchoClient(channel->open("/test.Echo/" + std::string(method), std::move(options)));
  }

  FakeLoop loop;
  EchoService echo;
  std::unique_ptr<GrpcServer> server;
  MemoryStream* wire = nullptr;
  std::unique_ptr<ClientChannel> channel;
};

TEST_F(GrpcTest, AUnaryCallIsAnswered) {
  channel = connect();
  auto c = call("Unary", {.metadata = {{"workload.spiffe.io", "true"}, {"other", "x"}}});
  c.send("hello");
  c.close_send();
  c.listen();
  settle();
  ASSERT_EQ(c.messages.size(), 1u);
  EXPECT_EQ(as_text(c.messages[0]), "hello");
  EXPECT_TRUE(c.ok);
  EXPECT_EQ(echo.stats.live, 0);
  const Metadata expected{{"user-agent", "limpet/" LIMPET_VERSION}, {"workload.spiffe.io", "true"}, {"other", "x"}};
  EXPECT_EQ(echo.stats.last_metadata, expected);
}

TEST_F(GrpcTest, MessagesOfEverySizeComeBackWhole) {
  channel = connect();
  for (size_t size : {0u, 1u, 16'379u, 16'384u, 65'530u, 65'536u, 1'000'000u, 4u << 20}) {
    auto c = call("Unary");
    Bytes sent(size);
    for (size_t i = 0; i < size; ++i) sent[i] = static_cast<uint8_t>(i * 7 + i / 251);
    c.send(sent);
    c.close_send();
    c.listen();
    settle();
    ASSERT_EQ(c.messages.size(), 1u) << size << (c.error ? c.error->text() : "");
    EXPECT_TRUE(c.messages[0] == sent) << size;
    EXPECT_TRUE(c.ok);
  }
}

TEST_F(GrpcTest, BytesMayArriveOneByOne) {
  channel = connect();
  wire->chunk = 1;
  auto c = call("Bidi");
  c.listen();
  for (int i = 0; i < 5; ++i) c.send("message " + std::to_string(i));
  c.close_send();
  for (int i = 0; i < 20; ++i) settle();
  EXPECT_EQ(c.messages.size(), 5u);
  EXPECT_TRUE(c.ok);
}

TEST_F(GrpcTest, AServerStreamWithBackPressureLosesNothing) {
  channel = connect();
  auto c = call("Stream");
  c.send("1000 10000");
  c.close_send();
  c.greedy = false;
  settle();
  EXPECT_EQ(echo.stats.live, 1);  // it waits: nobody reads
  c.greedy = true;
  c.listen();
  for (int i = 0; i < 50; ++i) settle();
  EXPECT_EQ(c.messages.size(), 1000u);
  EXPECT_TRUE(c.ok);
  EXPECT_EQ(echo.stats.live, 0);
}

TEST_F(GrpcTest, AStatusArrivesWithItsDetails) {
  channel = connect();
  auto c = call("Fail");
  c.listen();
  settle();
  ASSERT_TRUE(c.error);
  EXPECT_EQ(c.error->code, Code::permission_denied);
  EXPECT_EQ(c.error->message, "h\xc3\xa9llo 100%\n");
  EXPECT_EQ(c.error->details, (std::vector<uint8_t>{1, 2, 3, 4, 0xff}));
  EXPECT_EQ(echo.stats.live, 0);
}

TEST_F(GrpcTest, WhatDoesNotExistIsUnimplementedInGrpcGosWords) {
  channel = connect();
  const std::pair<const char*, const char*> cases[] = {
      {"/no.Such/Method", "unknown service no.Such"},
      {"/test.Echo/Nothing", "unknown method Nothing for service test.Echo"},
      {"/x", "malformed method name: \"/x\""},
  };
  for (const auto& [path, text] : cases) {
    EchoClient c(channel->open(path, {}));
    c.listen();
    settle();
    ASSERT_TRUE(c.error) << path;
    EXPECT_EQ(c.error->code, Code::unimplemented);
    EXPECT_EQ(c.error->message, text);
  }
}

TEST_F(GrpcTest, ADeadlineEndsBothSides) {
  channel = connect();
  auto c = call("Hang", {.timeout_ms = 500});
  c.listen();
  settle();
  EXPECT_EQ(echo.stats.live, 1);
  loop.advance(499);
  settle();
  EXPECT_FALSE(c.ended());
  loop.advance(2);
  settle();
  ASSERT_TRUE(c.error);
  EXPECT_EQ(c.error->text(), "DeadlineExceeded: context deadline exceeded");
  EXPECT_EQ(echo.stats.live, 0);
}

TEST_F(GrpcTest, TheServerKeepsTheDeadlineToo) {
  channel = connect();
  auto c = call("Hang", {.metadata = {{"grpc-timeout", "300m"}}});  // our own client knows of none
  c.listen();
  settle();
  loop.advance(301);
  settle();
  ASSERT_TRUE(c.error);
  EXPECT_EQ(c.error->text(), "DeadlineExceeded: context deadline exceeded");
  EXPECT_EQ(echo.stats.live, 0);
}

TEST_F(GrpcTest, ACallWhoseRequestDoesNotComeEndsAndOneThatHasItsRequestStays) {
  channel = connect();
  auto silent = call("Unary");
  silent.listen();
  auto streaming = call("Stream");
  streaming.send("1000 10000");
  streaming.greedy = false;
  settle();
  loop.advance(limits::kRequestMs - 1);
  settle();
  EXPECT_FALSE(silent.ended());
  loop.advance(2);
  settle();
  ASSERT_TRUE(silent.error);
  EXPECT_EQ(silent.error->text(), "DeadlineExceeded: no request came within 120 s");
  EXPECT_EQ(echo.stats.live, 1) << "the one with a request";
}

TEST_F(GrpcTest, ACallThatOnlyHoldsItsPlaceMakesRoom) {
  serve({.max_connections = 1});
  auto first = connect();
  EchoClient held(first->open("/test.Echo/Unary", {}));
  held.listen();
  settle();
  loop.advance(10'000);
  settle();
  channel = connect();
  auto c = call("Unary");
  c.send("hello");
  c.close_send();
  c.listen();
  settle();
  EXPECT_TRUE(c.ok);
  EXPECT_TRUE(held.ended());
}

TEST_F(GrpcTest, CancellingDestroysTheFlow) {
  channel = connect();
  {
    auto c = call("Hang");
    c.listen();
    settle();
    EXPECT_EQ(echo.stats.live, 1);
  }
  settle();
  EXPECT_EQ(echo.stats.live, 0);
  EXPECT_EQ(server->connections(), 1u);
}

TEST_F(GrpcTest, ALostConnectionEndsEverything) {
  channel = connect();
  auto c = call("Hold");
  c.send("x");
  c.close_send();
  c.listen();
  settle();
  EXPECT_EQ(c.messages.size(), 1u);
  server.reset();
  settle();
  ASSERT_TRUE(c.error);
  EXPECT_EQ(c.error->text(), "Unavailable: error reading from server: EOF");
  EXPECT_FALSE(channel->usable());
  EXPECT_EQ(echo.stats.live, 0);
  EchoClient late(channel->open("/test.Echo/Unary", {}));
  late.listen();
  settle();
  ASSERT_TRUE(late.error);
  EXPECT_EQ(late.error->code, Code::unavailable);
}

TEST_F(GrpcTest, DestroyingTheChannelEndsItsCalls) {
  channel = connect();
  auto c = call("Hold");
  c.listen();
  settle();
  channel.reset();
  settle();
  ASSERT_TRUE(c.error);
  EXPECT_EQ(c.error->code, Code::unavailable);
  EXPECT_EQ(echo.stats.live, 0);
  EXPECT_EQ(server->connections(), 0u);
}

TEST_F(GrpcTest, AnAgedConnectionIsDrainedGracefully) {
  serve({.connection_age_ms = 10'000});
  channel = connect();
  auto c = call("Bidi");
  c.send("a");
  c.listen();
  settle();
  EXPECT_TRUE(channel->usable());
  loop.advance(11'001);
  settle();
  EXPECT_FALSE(channel->usable());  // told to go
  c.send("b");                      // but what runs goes on
  settle();
  EXPECT_EQ(c.messages.size(), 2u);
  c.close_send();
  settle();
  EXPECT_TRUE(c.ok);
  loop.advance(3'000);
  settle();
  EXPECT_EQ(server->connections(), 0u);
}

TEST_F(GrpcTest, ASilentConnectionIsClosedAfterTheHandshakeTime) {
  auto pair = connect_memory(loop);
  server->on_connection(std::move(pair.b));
  settle();
  EXPECT_EQ(server->connections(), 1u);
  loop.advance(limits::kHandshakeMs + 1);
  settle();
  EXPECT_EQ(server->connections(), 0u);
}

TEST_F(GrpcTest, TheIdleConnectionMakesRoom) {
  serve({.max_connections = 2});
  auto first = connect();
  settle();
  loop.advance(10);
  channel = connect();
  auto held = call("Hang");
  settle();
  loop.advance(10);
  auto third = connect();
  settle();
  EXPECT_FALSE(first->usable());
  EXPECT_TRUE(channel->usable());
  EXPECT_TRUE(third->usable());
  EchoClient busy(third->open("/test.Echo/Hang", {}));
  settle();
  auto fourth = connect();  // nobody is idle now
  settle();
  EXPECT_FALSE(fourth->usable());
  EXPECT_TRUE(third->usable());
  EXPECT_EQ(server->connections(), 2u);
}

TEST_F(GrpcTest, OnePeerCannotTakeEveryPlace) {
  serve({.max_connections = 10, .max_connections_per_peer = 1});
  channel = connect();
  auto c = call("Hang");
  settle();
  auto second = connect();  // the same uid
  settle();
  EXPECT_FALSE(second->usable());
  auto pair = connect_memory(loop);
  pair.b->peer = PeerCredentials{.pid = -1, .uid = 4711, .gid = 0};
  server->on_connection(std::move(pair.b));
  ClientChannel other(loop, std::move(pair.a), "localhost", {});
  settle();
  EXPECT_TRUE(other.usable());
}

TEST_F(GrpcTest, AFlowMayTakeTheServerWithIt) {
  struct Bomb final : ServerFlow {
    explicit Bomb(std::unique_ptr<GrpcServer>& s, ServerCall& c, int w) : server(s), call(c), when(w) {}
    void start() override {
      if (when == 0) return server.reset();
      call.receive(received.then<&Bomb::on_message>(this));
    }
    void on_message(Result<std::optional<Bytes>>) {
      if (when == 1) return server.reset();
      call.send(to_bytes("x"), sent.then<&Bomb::on_sent>(this));
    }
    void on_sent(Result<void>) { server.reset(); }
    std::unique_ptr<GrpcServer>& server;
    ServerCall& call;
    int when;
    Pending<std::optional<Bytes>> received;
    Pending<void> sent;
  };
  struct Bombs final : Service {
    std::unique_ptr<ServerFlow> open(ServerCall& call) override { return std::make_unique<Bomb>(*server, call, when); }
    std::unique_ptr<GrpcServer>* server = nullptr;
    int when = 0;
  } bombs;
  bombs.server = &server;
  for (bombs.when = 0; bombs.when < 3; ++bombs.when) {
    serve({});
    server->add("test.Bomb", bombs);
    channel = connect();
    EchoClient c(channel->open("/test.Bomb/Go", {}));
    c.send("x");
    c.listen();
    settle();
    EXPECT_FALSE(server);
    ASSERT_TRUE(c.error);
    EXPECT_EQ(c.error->code, Code::unavailable);
  }
}

struct Stopper {
  Pending<void> pending;
  bool done = false;
  void on_done(Result<void>) { done = true; }
};

TEST_F(GrpcTest, StopWaitsForCallsAndThenDoesNot) {
  channel = connect();
  auto c = call("Hang");
  c.listen();
  settle();
  Stopper stopper;
  server->stop(5'000, stopper.pending.then<&Stopper::on_done>(&stopper));
  settle();
  EXPECT_FALSE(stopper.done);
  EXPECT_FALSE(channel->usable());
  loop.advance(5'001);
  settle();
  EXPECT_TRUE(stopper.done);
  EXPECT_EQ(echo.stats.live, 0);
  EXPECT_TRUE(c.error);
}

TEST_F(GrpcTest, StopWithNoConnectionsIsDone) {
  Stopper stopper;
  server->stop(5'000, stopper.pending.then<&Stopper::on_done>(&stopper));
  EXPECT_FALSE(stopper.done);
  settle();
  EXPECT_TRUE(stopper.done);
}

TEST_F(GrpcTest, AMessageOverFourMebibytesIsRefusedByBothSides) {
  channel = connect();
  auto c = call("Unary");
  c.send(Bytes((4u << 20) + 1));
  c.close_send();
  c.listen();
  settle();
  ASSERT_TRUE(c.error);
  EXPECT_EQ(c.error->text(), "ResourceExhausted: grpc: received message larger than max (4194305 vs. 4194304)");
  EXPECT_EQ(echo.stats.live, 0);
  auto down = call("Stream");
  down.send("1 5000000");
  down.close_send();
  down.listen();
  settle();
  ASSERT_TRUE(down.error);
  EXPECT_EQ(down.error->text(), "ResourceExhausted: grpc: received message larger than max (5000000 vs. 4194304)");
  settle();
  EXPECT_EQ(echo.stats.live, 0);
}

TEST_F(GrpcTest, KeepaliveFindsADeadServer) {
  channel = connect();
  channel->keep_alive(10'000);
  auto c = call("Hang");
  c.listen();
  settle();
  for (int i = 0; i < 10; ++i) {
    loop.advance(10'000);
    settle();
  }
  EXPECT_TRUE(channel->usable());  // pings are answered
  auto pair = connect_memory(loop);
  ClientChannel dead(loop, std::move(pair.a), "localhost", {});
  dead.keep_alive(10'000);
  loop.advance(10'001);
  settle();
  loop.advance(20'001);
  settle();
  EXPECT_FALSE(dead.usable());
}

// Every step of a busy conversation is a good moment for either side to vanish.
TEST_F(GrpcTest, EitherSideMayDieAtEveryStep) {
  for (int victim = 0; victim < 3; ++victim) {
    for (int steps = 0; steps < 120; ++steps) {
      serve({});
      channel = connect();
      std::optional<EchoClient> c(std::in_place, channel->open("/test.Echo/Bidi", {.timeout_ms = 1000}));
      std::optional<EchoClient> held(std::in_place, channel->open("/test.Echo/Hold", {}));
      held->send("x");
      held->listen();
      c->listen();
      for (int i = 0; i < 3; ++i) c->send(Bytes(3000, 'y'));
      c->close_send();
      for (int i = 0; i < steps; ++i) {
        if (!loop.run_one()) loop.advance(0);
      }
      if (victim == 0) server.reset();
      if (victim == 1) channel.reset();
      if (victim == 2) c.reset(), held.reset();
      settle();
      EXPECT_TRUE(victim != 0 || held->ended());
      c.reset();
      held.reset();
      settle();
      EXPECT_EQ(echo.stats.live, 0);
    }
  }
}

}  // namespace
}  // namespace limpet::wire
