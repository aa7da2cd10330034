// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.api.server.logger.v1.Logger on the local socket: the log level while the server runs, and back to the one it
// was started with. Owned by ServerCore; loop thread only.

#include <memory>

#include "server/caller.h"
#include "server/context.h"

namespace limpet::server {

class LoggerApi final : public Api {
 public:
  explicit LoggerApi(Logger& logger) : logger_(logger) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller& caller) override;

 private:
  Logger& logger_;
};

}  // namespace limpet::server
