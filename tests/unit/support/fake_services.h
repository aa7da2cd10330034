// SPDX-License-Identifier: Apache-2.0
#pragma once
// What stands behind a plugin's host services in tests: each keeps what it was asked, and the test answers.

#include <string>
#include <vector>

#include "plugin/grpc_caller.h"
#include "plugin/http_caller.h"
#include "plugin/server_facts.h"

namespace limpet::test {

template <class Asked, class Answer>
struct Kept {
  std::vector<Asked> asked;
  std::vector<Done<Answer>> waiting;
};
struct FakeGrpc final : GrpcCaller, Kept<GrpcRequest, Bytes> {
  void call(GrpcRequest request, Done<Bytes> done) override {
    asked.push_back(std::move(request));
    waiting.push_back(std::move(done));
  }
};
struct FakeHttp final : HttpCaller, Kept<PlainGet, PlainReply> {
  [[nodiscard]] bool has_room() const override { return !full; }
  void get(PlainGet request, Done<PlainReply> done) override {
    asked.push_back(std::move(request));
    waiting.push_back(std::move(done));
  }
  bool full = false;
};
struct FakeAgents final : AgentLookup, Kept<std::string, KnownAgent> {
  void find(const std::string& id, Done<KnownAgent> done) override {
    asked.push_back(id);
    waiting.push_back(std::move(done));
  }
};

struct FakeDevices final : DeviceLookup, Kept<std::pair<std::string, std::string>, KnownDevice> {
  void find(const std::string& attestor, const std::string& identifier, Done<KnownDevice> done) override {
    asked.emplace_back(attestor, identifier);
    waiting.push_back(std::move(done));
  }
};

}  // namespace limpet::test
