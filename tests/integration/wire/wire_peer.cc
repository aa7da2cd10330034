// SPDX-License-Identifier: Apache-2.0
// A small program around the transport, for foreign clients and servers to talk to:
//   wire_peer serve-unix PATH            wire_peer serve-tls PORT [reject]
//   wire_peer call-unix PATH METHOD TEXT [TIMEOUT_MS]
//   wire_peer call-tls PORT METHOD TEXT [anonymous|reject]
//   wire_peer bench-unix PATH CALLS DEPTH
// serve-* prints "ready" and runs until killed; SIGUSR1 drains. call-* prints each answer and the status.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <algorithm>
#include <chrono>
#include <string>

#include "echo_service.h"
#include "loop/uv_loop.h"
#include "loop/uv_stream.h"
#include "test_identity.h"
#include "wire/grpc_client.h"
#include "wire/grpc_server.h"
#include "wire/health_service.h"

using namespace limpet;
using namespace limpet::wire;

namespace {

struct Events final : GrpcServerEvents {
  void on_connection_refused(const Peer& peer, const Error& why) override {
    std::printf("refused %s: %s\n", peer.address.text().c_str(), why.text().c_str());
    std::fflush(stdout);
  }
};

struct Server {
  UvLoop loop;
  Events events;
  EchoService echo;
  TestPolicy policy;
  HealthService health{[](std::string_view name) {
                         return name.empty() || name == "test.Echo" ? ServingStatus::serving
                                                                    : ServingStatus::service_unknown;
                       },
                       {"test.Echo"}};
  std::unique_ptr<GrpcServer> server;
  std::unique_ptr<Listener> listener;
  Pending<void> stopped;
  void on_stopped(Result<void>) {
    std::printf("stopped live=%d\n", echo.stats.live);
    std::fflush(stdout);
    loop.stop();
  }

  int run(GrpcServerOptions options, const char* path, int port) {
    server = std::make_unique<GrpcServer>(loop, options, &events);
    server->add("test.Echo", echo);
    server->add(kHealthServiceName, health);
    auto listening = path != nullptr ? listen_unix(loop, path, 0777, *server)
                                     : listen_tcp(loop, "127.0.0.1", static_cast<uint16_t>(port), *server);
    if (!listening) return std::fprintf(stderr, "%s\n", listening.error().text().c_str()), 1;
    listener = std::move(*listening);
    (void)loop.on_signal(SIGUSR1, [this] { server->stop(2000, stopped.then<&Server::on_stopped>(this)); });
    (void)loop.on_signal(SIGTERM, [this] { loop.stop(); });
    (void)loop.on_signal(SIGUSR2, [this] {
      std::printf("live=%d opened=%d connections=%zu pid=%d start=%llu pidfd=%d\n", echo.stats.live, echo.stats.opened,
                  server->connections(), echo.stats.last_peer.credentials ? echo.stats.last_peer.credentials->pid : 0,
                  static_cast<unsigned long long>(echo.stats.last_peer.process_start), echo.stats.last_peer.pidfd >= 0);
      std::fflush(stdout);
    });
    std::printf("ready %d\n", listener->port());
    std::fflush(stdout);
    loop.run();
    server.reset();
    return 0;
  }
};

struct Client {
  UvLoop loop;
  TestPolicy policy;
  Pending<std::unique_ptr<Channel>> dialled;
  std::unique_ptr<Channel> channel;
  std::unique_ptr<ClientCall> call;
  Pending<void> sent;
  Pending<std::optional<Bytes>> received;
  std::string method, text;
  int64_t timeout = 0;
  int exit_code = 0;

  int run(DialOptions options) {
    dial(loop, std::move(options), dialled.then<&Client::on_dialled>(this));
    loop.run();
    call.reset();
    channel.reset();
    return exit_code;
  }
  void on_dialled(Result<std::unique_ptr<Channel>> result) {
    if (!result) return end(result.error());
    channel = std::move(*result);
    std::printf("peer chain %zu\n", channel->peer_chain().size());
    call = channel->open(method, {.timeout_ms = timeout});
    call->send(to_bytes(text), sent.then<&Client::on_sent>(this));
    call->close_send();
    listen();
  }
  void listen() { call->receive(received.then<&Client::on_message>(this)); }
  void on_sent(Result<void>) {}
  void on_message(Result<std::optional<Bytes>> message) {
    if (!message) return end(message.error());
    if (!*message) return std::puts("OK"), loop.stop();
    std::printf("message %s\n", std::string(as_text(**message)).c_str());
    listen();
  }
  void end(const Error& error) {
    std::printf("%s details=%zu\n", error.text().c_str(), error.details.size());
    exit_code = 1;
    loop.stop();
  }
};

// `depth` unary calls at once until `left` are done; prints calls per second and latencies.
struct Bench {
  struct Slot {
    Bench* bench;
    std::unique_ptr<ClientCall> call;
    Pending<void> sent;
    Pending<std::optional<Bytes>> received;
    std::chrono::steady_clock::time_point start;
    void go() {
      start = std::chrono::steady_clock::now();
      call = bench->channel->open("/test.Echo/Unary", {});
      call->send(Bytes(100, 'x'), sent.then<&Slot::on_sent>(this));
      call->close_send();
      call->receive(received.then<&Slot::on_message>(this));
    }
    void on_sent(Result<void>) {}
    void on_message(Result<std::optional<Bytes>> message) {
      if (message && *message) return call->receive(received.then<&Slot::on_message>(this));
      bench->took.push_back(
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
      if (bench->left == 0) return --bench->busy == 0 ? bench->loop.stop() : void();
      --bench->left;
      go();
    }
  };
  UvLoop loop;
  std::unique_ptr<Channel> channel;
  Pending<std::unique_ptr<Channel>> dialled;
  std::vector<std::unique_ptr<Slot>> slots;
  std::vector<double> took;
  size_t left = 0, busy = 0, depth = 1;
  void on_dialled(Result<std::unique_ptr<Channel>> result) {
    if (!result) return loop.stop();
    channel = std::move(*result);
    for (busy = 0; busy < depth; ++busy) {
      slots.push_back(std::make_unique<Slot>());
      slots.back()->bench = this;
      slots.back()->go();
    }
  }
  int run(const char* path, size_t calls, size_t at_once) {
    left = calls;
    depth = at_once;
    const auto start = std::chrono::steady_clock::now();
    dial(loop, {.unix_path = path}, dialled.then<&Bench::on_dialled>(this));
    loop.run();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::sort(took.begin(), took.end());
    if (took.empty()) return 1;
    std::printf("%.0f calls/s p50 %.0f us p99 %.0f us\n", static_cast<double>(took.size()) / seconds,
                took[took.size() / 2], took[took.size() * 99 / 100]);
    slots.clear();
    channel.reset();
    return 0;
  }
};

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 2 ? argv[1] : "";
  const auto argument = [&](int at) { return argc > at ? std::string(argv[at]) : std::string(); };
  const auto objection = Error{Code::unauthenticated, "x509: certificate signed by unknown authority"};
  if (verb == "serve-unix") return Server().run({}, argv[2], 0);
  if (verb == "serve-tls") {
    Server server;
    server.policy.mine = make_identity("spiffe://example.org/spire/server");
    if (argument(3) == "reject") server.policy.rules->answer = objection;
    return server.run({.tls = &server.policy}, nullptr, std::atoi(argv[2]));
  }
  if (verb == "bench-unix")
    return Bench().run(argv[2], std::strtoul(argument(3).c_str(), nullptr, 10),
                       std::strtoul(argument(4).c_str(), nullptr, 10));
  if (verb != "call-unix" && verb != "call-tls") return std::fputs("see the comment at the top\n", stderr), 2;
  Client client;
  client.method = argument(3);
  client.text = argument(4);
  if (verb == "call-unix") {
    client.timeout = std::atoi(argument(5).c_str());
    return client.run({.unix_path = argv[2]});
  }
  if (argument(5) != "anonymous") client.policy.mine = make_identity("spiffe://example.org/agent");
  if (argument(5) == "reject") client.policy.rules->answer = objection;
  return client.run({.host = "127.0.0.1", .port = static_cast<uint16_t>(std::atoi(argv[2])), .tls = &client.policy});
}
