// SPDX-License-Identifier: Apache-2.0
#pragma once
// For the tests of what the agent serves: a call by this very process, and a workload attestor with a fixed answer.

#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fakes.h"
#include "plugin/attestor.h"
#include "wire/peer_info.h"

namespace limpet::test {

class FakeCall final : public wire::ServerCall {
 public:
  FakeCall(FakeLoop& loop, const std::string& method, const std::string& service = "SpiffeWorkloadAPI")
      : loop_(loop), method_("/" + service + "/" + method) {
    peer_.credentials = PeerCredentials{::getpid(), ::geteuid(), ::getegid()};
    peer_.process_start = wire::process_start_time(::getpid());
    headers = {{"workload.spiffe.io", "true"}};
  }
  [[nodiscard]] std::string_view method() const override { return method_; }
  [[nodiscard]] const wire::Peer& peer() const override { return peer_; }
  [[nodiscard]] const wire::Metadata& metadata() const override { return headers; }
  [[nodiscard]] int64_t time_left_ms() const override { return INT64_MAX; }
  void receive(Done<std::optional<Bytes>> done) override {
    if (std::exchange(asked_, true)) {
      parked_ = std::move(done);
      return;
    }
    loop_.post([r = request, d = std::move(done)]() mutable { d(std::move(r)); });
  }
  // A further message of a stream, or with nullopt its end; the flow must be waiting for one.
  void say(std::optional<Bytes> message) {
    loop_.post([m = std::move(message), d = std::move(parked_)]() mutable { d(std::move(m)); });
  }
  void send(Bytes message, Done<void> done, bool secret) override {
    sent.push_back(std::move(message));
    was_secret = secret;
    loop_.post([d = std::move(done)]() mutable { d({}); });
  }
  void finish(Result<void> status) override { ended.push_back(std::move(status)); }
  [[nodiscard]] std::string end() const { return ended.empty() ? "" : ended[0] ? "OK" : ended[0].error().text(); }

  Result<std::optional<Bytes>> request = std::optional(Bytes{});
  wire::Metadata headers;
  wire::Peer peer_;
  std::vector<Bytes> sent;
  bool was_secret = false;
  std::vector<Result<void>> ended;

 private:
  FakeLoop& loop_;
  std::string method_;
  bool asked_ = false;
  Done<std::optional<Bytes>> parked_;
};

class FakeWorkloadAttestor final : public WorkloadAttestor {
 public:
  FakeWorkloadAttestor(FakeLoop& loop, std::string name, Result<std::vector<std::string>> answer)
      : answer(std::move(answer)), loop_(loop), name_(std::move(name)) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  void attest(const WorkloadReference& workload, Done<std::vector<std::string>> done) override {
    asked_pid = workload.pid;
    if (silent)
      kept = std::move(done);
    else
      loop_.post([a = answer, d = std::move(done)]() mutable { d(std::move(a)); });
  }
  Result<std::vector<std::string>> answer;
  bool silent = false;
  int32_t asked_pid = 0;
  Done<std::vector<std::string>> kept;

 private:
  FakeLoop& loop_;
  std::string name_;
};

}  // namespace limpet::test
