// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.agent.debug.v1.Debug on the admin socket: what the agent holds. Owned by the Agent; loop thread only.

#include <memory>
#include <optional>

#include "agent/agent_svid.h"
#include "loop/loop.h"
#include "wire/grpc.h"

namespace limpet::agent {

class DebugSource {
 public:
  virtual ~DebugSource() = default;
  [[nodiscard]] virtual const std::optional<AgentSvid>& own_svid() const = 0;
  [[nodiscard]] virtual int64_t last_sync() const = 0;  // Unix seconds; 0: not in this run
  [[nodiscard]] virtual size_t cached_svids() const = 0;
  [[nodiscard]] virtual size_t cached_tokens() const = 0;  // JWT-SVIDs
};

class DebugApi final : public wire::Service {
 public:
  static constexpr const char* kName = "spire.agent.debug.v1.Debug";  // without "api", as SPIRE has it
  DebugApi(Loop& loop, const DebugSource& source) : loop_(loop), source_(source), started_ms_(loop.now_ms()) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call) override;

 private:
  Loop& loop_;
  const DebugSource& source_;
  int64_t started_ms_;
};

}  // namespace limpet::agent
