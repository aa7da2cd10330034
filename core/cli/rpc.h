// SPDX-License-Identifier: Apache-2.0
#pragma once
// Commands ask a running server or agent over its socket and wait: a loop of their own, one connection, one call at a
// time. Main thread only.

#include <cstdio>
#include <functional>
#include <memory>
#include <string>

#include "cli/command.h"
#include "loop/uv_loop.h"
#include "wire/grpc_client.h"
#include "wire/unary.h"

namespace limpet::cli {

// "rpc error: code = NotFound desc = agent not found", as grpc-go prints an error.
std::string rpc_text(const Error& error);

class Rpc {
 public:
  // `role` is kServer or kAgent: SPIRE's server commands print the socket's path with "//" before it.
  Rpc(std::string socket_path, unsigned role) : socket_path_(std::move(socket_path)), role_(role) {}

  // One unary call, dialling first if need be. `timeout_ms` covers both.
  template <class Request, class Response>
  Result<wire::Message<Response>> call(std::string_view method, const wire::Message<Request>& request,
                                       wire::CallOptions options = {.timeout_ms = 30'000, .metadata = {}}) {
    TRY_ASSIGN(Bytes bytes, request.encode());
    TRY_ASSIGN(const Bytes answer, call_bytes(method, std::move(bytes), std::move(options)));
    return wire::Message<Response>::decode(answer);
  }

  // Connects now; UNAVAILABLE in grpc-go's words when nobody listens.
  Result<void> connect();
  wire::Channel& channel() { return *channel_; }
  UvLoop& loop() { return loop_; }

  // Runs the loop until one Done is called.
  template <class T>
  class Waiter {
   public:
    explicit Waiter(UvLoop& loop) : loop_(loop) {}
    Done<T> done() { return pending_.template then<&Waiter::on_result>(this); }
    Result<T> wait() {
      while (!have_) loop_.run();  // another waiter of the same loop may have ended it
      have_ = false;
      return std::move(result_);
    }

   private:
    void on_result(Result<T> result) {
      result_ = std::move(result);
      have_ = true;
      loop_.stop();
    }
    UvLoop& loop_;
    Pending<T> pending_;
    bool have_ = false;
    Result<T> result_ = std::unexpected(Error{});
  };

 private:
  // Apart from the template: there are forty methods.
  Result<Bytes> call_bytes(std::string_view method, Bytes request, wire::CallOptions options);

  std::string socket_path_;
  unsigned role_;
  UvLoop loop_;
  std::unique_ptr<wire::Channel> channel_;
};

}  // namespace limpet::cli
