// SPDX-License-Identifier: Apache-2.0
#pragma once
// Methods that this version does not offer: authorised like every other, then answered with UNIMPLEMENTED. Loop thread.

#include <memory>
#include <string>

#include "server/caller.h"

namespace limpet::server {

class UnimplementedFlow final : public wire::ServerFlow {
 public:
  UnimplementedFlow(wire::ServerCall& call, std::string why) : call_(call), why_(std::move(why)) {}
  void start() override { call_.finish(fail(Code::unimplemented, std::move(why_))); }

 private:
  wire::ServerCall& call_;
  std::string why_;
};

// A whole service of them.
class UnimplementedApi final : public Api {
 public:
  explicit UnimplementedApi(std::string why) : why_(std::move(why)) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller&) override {
    return std::make_unique<UnimplementedFlow>(call, why_);
  }

 private:
  std::string why_;
};

}  // namespace limpet::server
