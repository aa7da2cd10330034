// SPDX-License-Identifier: Apache-2.0
#pragma once
// The common shape of most methods: one request, one response. On the server a class derives from UnaryFlow and
// implements handle(); on the client UnaryCall is a member of the flow that asks. Loop thread only.

#include <memory>

#include "wire/grpc.h"
#include "wire/message.h"

namespace limpet::wire {

// What does not depend on the types, so that it is there once and not for each of sixty methods.
class UnaryFlowBase : public ServerFlow {
 public:
  explicit UnaryFlowBase(ServerCall& call) : call_(call) {}
  void start() override { call_.receive(received_.then<&UnaryFlowBase::on_request>(this)); }

 protected:
  // Where the request goes, and then: begin to answer it.
  virtual MessagePlace request_place() = 0;
  virtual void handle_request() = 0;
  void reply_bytes(Result<Bytes> response, bool secret) {
    if (!response) return refuse(std::move(response).error());
    call_.send(std::move(*response), sent_.then<&UnaryFlowBase::on_sent>(this), secret);
  }
  void refuse(Error error) { call_.finish(std::unexpected(std::move(error))); }
  ServerCall& call() { return call_; }

 private:
  void on_request(Result<std::optional<Bytes>> bytes) {
    if (!bytes) return refuse(std::move(bytes).error());
    if (!*bytes) return refuse(Error{Code::internal, "unary call without a request"});
    if (auto decoded = request_place().decode(**bytes); !decoded) return refuse(std::move(decoded).error());
    handle_request();
  }
  void on_sent(Result<void> sent) { call_.finish(std::move(sent)); }

  ServerCall& call_;
  Pending<std::optional<Bytes>> received_;
  Pending<void> sent_;
};

template <class Request, class Response>
class UnaryFlow : public UnaryFlowBase {
 public:
  using UnaryFlowBase::UnaryFlowBase;

 protected:
  // The request lives as long as the flow. Ends by reply() or refuse(), now or later, exactly once.
  virtual void handle(const Request& request) = 0;
  void reply(const Message<Response>& response, bool secret = false) { reply_bytes(response.encode(), secret); }

 private:
  MessagePlace request_place() final { return request_.place(); }
  void handle_request() final { handle(*request_); }
  Message<Request> request_;
};

// One unary call on a channel, in bytes. A member of the one who asks; destroying it cancels.
class UnaryBytesCall {
 public:
  void start(Channel& channel, std::string_view method, Bytes request, CallOptions options, Done<Bytes> done) {
    done_ = std::move(done);
    call_ = channel.open(method, std::move(options));
    call_->send(std::move(request), sent_.then<&UnaryBytesCall::on_sent>(this));
    call_->close_send();
    call_->receive(received_.then<&UnaryBytesCall::on_response>(this));
  }
  [[nodiscard]] bool running() const { return call_ != nullptr; }

 private:
  void on_sent(Result<void>) {}  // a failure shows in receive()
  void on_response(Result<std::optional<Bytes>> bytes) {
    if (!bytes) return end(std::unexpected(std::move(bytes).error()));
    if (!*bytes) return end(fail(Code::internal, "server ended a unary call without a response"));
    response_ = std::move(**bytes);
    call_->receive(received_.then<&UnaryBytesCall::on_status>(this));
  }
  void on_status(Result<std::optional<Bytes>> status) {
    if (!status) return end(std::unexpected(std::move(status).error()));
    if (*status) return end(fail(Code::internal, "server sent two responses to a unary call"));
    end(std::move(response_));
  }
  void end(Result<Bytes> result) {
    call_.reset();
    Done<Bytes> done = std::move(done_);
    done(std::move(result));  // may destroy this
  }

  std::unique_ptr<ClientCall> call_;
  Bytes response_;
  Done<Bytes> done_;
  Pending<void> sent_;
  Pending<std::optional<Bytes>> received_;
};

// The same in messages; a member of the flow that asks.
template <class Request, class Response>
class UnaryCall {
 public:
  void start(Channel& channel, std::string_view method, const Message<Request>& request, CallOptions options,
             Done<Message<Response>> done) {
    done_ = std::move(done);
    auto bytes = request.encode();
    if (!bytes) return end(std::unexpected(std::move(bytes).error()));
    call_.start(channel, method, std::move(*bytes), std::move(options),
                answered_.template then<&UnaryCall::on_bytes>(this));
  }
  [[nodiscard]] bool running() const { return call_.running(); }

 private:
  void on_bytes(Result<Bytes> bytes) {
    if (!bytes) return end(std::unexpected(std::move(bytes).error()));
    end(Message<Response>::decode(*bytes));
  }
  void end(Result<Message<Response>> result) {
    Done<Message<Response>> done = std::move(done_);
    done(std::move(result));  // may destroy this
  }

  UnaryBytesCall call_;
  Done<Message<Response>> done_;
  Pending<Bytes> answered_;
};

}  // namespace limpet::wire
