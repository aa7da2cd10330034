// SPDX-License-Identifier: Apache-2.0
#pragma once
// A service for tests of the transport: test.Echo with methods that answer, stream, fail, hang and push. Loop thread
// only.

#include <memory>
#include <string>

#include "base/secret.h"
#include "loop/loop.h"
#include "wire/grpc.h"

namespace limpet::wire {

struct EchoStats {
  int live = 0;  // flows that exist
  int opened = 0;
  Metadata last_metadata;
  Peer last_peer;
};

class EchoFlow : public ServerFlow {
 public:
  EchoFlow(ServerCall& call, EchoStats& stats) : call_(call), stats_(stats) {
    ++stats_.live;
    ++stats_.opened;
    stats_.last_metadata = call.metadata();
    stats_.last_peer = call.peer();
  }
  ~EchoFlow() override { --stats_.live; }

 protected:
  ServerCall& call_;
  EchoStats& stats_;
  Pending<std::optional<Bytes>> received_;
  Pending<void> sent_;
};

// Every message comes back; ends when the client has. Serves as Unary and as Bidi.
class EchoBackFlow final : public EchoFlow {
 public:
  using EchoFlow::EchoFlow;
  void start() override { call_.receive(received_.then<&EchoBackFlow::on_message>(this)); }

 private:
  void on_message(Result<std::optional<Bytes>> message) {
    if (!message) return call_.finish(std::unexpected(message.error()));
    if (!*message) return call_.finish({});
    call_.send(std::move(**message), sent_.then<&EchoBackFlow::on_sent>(this), true);
  }
  void on_sent(Result<void> sent) {
    if (!sent) return call_.finish(sent);
    start();
  }
};

// "count size": so many messages of that size.
class EchoStreamFlow final : public EchoFlow {
 public:
  using EchoFlow::EchoFlow;
  void start() override { call_.receive(received_.then<&EchoStreamFlow::on_request>(this)); }

 private:
  void on_request(Result<std::optional<Bytes>> message) {
    if (!message || !*message) return call_.finish(fail(Code::invalid_argument, "no request"));
    const std::string text(as_text(**message));
    left_ = std::stoul(text);
    size_ = text.find(' ') == std::string::npos ? 3 : std::stoul(text.substr(text.find(' ') + 1));
    next();
  }
  void next() {
    if (left_ == 0) return call_.finish({});
    --left_;
    call_.send(Bytes(size_, 'x'), sent_.then<&EchoStreamFlow::on_sent>(this));
  }
  void on_sent(Result<void> sent) {
    if (!sent) return call_.finish(sent);
    next();
  }
  size_t left_ = 0;
  size_t size_ = 0;
};

// Sends one message, then stays open until the client goes: the Workload API's shape.
class EchoHoldFlow final : public EchoFlow {
 public:
  using EchoFlow::EchoFlow;
  void start() override { call_.receive(received_.then<&EchoHoldFlow::on_request>(this)); }

 private:
  void on_request(Result<std::optional<Bytes>>) {
    call_.send(to_bytes("held"), sent_.then<&EchoHoldFlow::on_sent>(this));
  }
  void on_sent(Result<void>) {}
};

class EchoFailFlow final : public EchoFlow {
 public:
  using EchoFlow::EchoFlow;
  void start() override {
    call_.finish(fail(Error{Code::permission_denied, "h\xc3\xa9llo 100%\n", {1, 2, 3, 4, 0xff}}));
  }
};

class EchoHangFlow final : public EchoFlow {
 public:
  using EchoFlow::EchoFlow;
  void start() override {}
};

class EchoService final : public Service {
 public:
  std::unique_ptr<ServerFlow> open(ServerCall& call) override {
    const std::string_view method = call.method().substr(call.method().rfind('/') + 1);
    if (method == "Unary" || method == "Bidi") return std::make_unique<EchoBackFlow>(call, stats);
    if (method == "Stream") return std::make_unique<EchoStreamFlow>(call, stats);
    if (method == "Hold") return std::make_unique<EchoHoldFlow>(call, stats);
    if (method == "Fail") return std::make_unique<EchoFailFlow>(call, stats);
    if (method == "Hang") return std::make_unique<EchoHangFlow>(call, stats);
    return nullptr;
  }
  EchoStats stats;
};

// A client call that keeps all it gets.
class EchoClient {
 public:
  explicit EchoClient(std::unique_ptr<ClientCall> call) : call_(std::move(call)) {}
  void send(Bytes message) { call_->send(std::move(message), sent_.then<&EchoClient::on_sent>(this)); }
  void send(std::string_view text) { send(to_bytes(text)); }
  void close_send() { call_->close_send(); }
  void listen() { call_->receive(received_.then<&EchoClient::on_message>(this)); }
  void cancel() { call_.reset(); }
  [[nodiscard]] bool ended() const { return ok || error; }

  std::vector<Bytes> messages;
  bool ok = false;
  std::optional<Error> error;
  int sent = 0;
  bool greedy = true;  // asks for the next message at once

 private:
  void on_sent(Result<void> result) { sent += result ? 1 : 0; }
  void on_message(Result<std::optional<Bytes>> message) {
    if (!message) {
      error = message.error();
    } else if (!*message) {
      ok = true;
    } else {
      messages.push_back(std::move(**message));
      if (greedy) listen();
    }
  }
  std::unique_ptr<ClientCall> call_;
  Pending<void> sent_;
  Pending<std::optional<Bytes>> received_;
};

}  // namespace limpet::wire
