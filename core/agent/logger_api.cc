// SPDX-License-Identifier: Apache-2.0
#include "agent/logger_api.h"

#include "proto/agent_logger.pb.h"
#include "proto/spire_types.pb.h"
#include "wire/enum_number.h"
#include "wire/unary.h"

namespace limpet::agent {
namespace {

using Levels = spire_api_types_Logger;
using GetRequest = spire_api_agent_logger_v1_GetLoggerRequest;
using SetRequest = spire_api_agent_logger_v1_SetLogLevelRequest;
using ResetRequest = spire_api_agent_logger_v1_ResetLogLevelRequest;

// The logger counts its levels as the wire does.
wire::Message<Levels> levels_of(const Logger& logger) {
  wire::Message<Levels> levels;
  levels->current_level = static_cast<spire_api_types_LogLevel>(logger.level());
  levels->launch_level = static_cast<spire_api_types_LogLevel>(logger.launch_level());
  return levels;
}

class GetFlow final : public wire::UnaryFlow<GetRequest, Levels> {
 public:
  GetFlow(wire::ServerCall& call, Logger& logger) : UnaryFlow(call), logger_(logger) {}

 private:
  void handle(const GetRequest&) override { reply(levels_of(logger_)); }
  Logger& logger_;
};

class SetFlow final : public wire::UnaryFlow<SetRequest, Levels> {
 public:
  SetFlow(wire::ServerCall& call, Logger& logger) : UnaryFlow(call), logger_(logger) {}

 private:
  void handle(const SetRequest& request) override {
    const int32_t level = wire::enum_number(request.new_level);
    if (level == 0) return refuse({Code::invalid_argument, "newLevel value cannot be LogLevel_UNSPECIFIED"});
    if (level < static_cast<int>(LogLevel::panic) || level > static_cast<int>(LogLevel::trace))
      return refuse({Code::invalid_argument, "unsupported log level"});
    logger_.set_level(static_cast<LogLevel>(level));
    reply(levels_of(logger_));
  }
  Logger& logger_;
};

class ResetFlow final : public wire::UnaryFlow<ResetRequest, Levels> {
 public:
  ResetFlow(wire::ServerCall& call, Logger& logger) : UnaryFlow(call), logger_(logger) {}

 private:
  void handle(const ResetRequest&) override {
    logger_.set_level(logger_.launch_level());
    reply(levels_of(logger_));
  }
  Logger& logger_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> LoggerApi::open(wire::ServerCall& call) {
  const std::string_view path = call.method();
  const std::string_view method = path.substr(path.rfind('/') + 1);
  if (method == "GetLogger") return std::make_unique<GetFlow>(call, logger_);
  if (method == "SetLogLevel") return std::make_unique<SetFlow>(call, logger_);
  if (method == "ResetLogLevel") return std::make_unique<ResetFlow>(call, logger_);
  return nullptr;
}

}  // namespace limpet::agent
