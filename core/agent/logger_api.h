// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.api.agent.logger.v1.Logger on the admin socket: the log level while the agent runs, and back to the one it was
// started with. Owned by the Agent; loop thread only.

#include <memory>

#include "report/log.h"
#include "wire/grpc.h"

namespace limpet::agent {

class LoggerApi final : public wire::Service {
 public:
  static constexpr const char* kName = "spire.api.agent.logger.v1.Logger";
  explicit LoggerApi(Logger& logger) : logger_(logger) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call) override;

 private:
  Logger& logger_;
};

}  // namespace limpet::agent
