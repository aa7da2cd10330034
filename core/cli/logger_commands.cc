// SPDX-License-Identifier: Apache-2.0
#include "cli/logger_commands.h"

#include <array>
#include <cstdio>

#include "cli/session.h"
#include "proto/agent_logger.pb.h"
#include "proto/spire_logger.pb.h"
#include "wire/enum_number.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::Message;

namespace {

using Levels = spire_api_types_Logger;
constexpr std::array<const char*, 8> kNames{"unspecified", "panic", "fatal", "error",
                                            "warning",     "info",  "debug", "trace"};

const char* name_of(int level) {
  return level >= 0 && level < static_cast<int>(kNames.size()) ? kNames[static_cast<size_t>(level)] : "unknown";
}

// 0: there is no such level.
int level_of(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (text == "warn") text = "warning";
  for (size_t i = 1; i < kNames.size(); i++)
    if (text == kNames[i]) return static_cast<int>(i);
  return 0;
}

template <class Request>
int ask(Context& context, unsigned role, const char* method, const Message<Request>& request) {
  return with_rpc(context, role, [&](Rpc& rpc, bool json) {
    const std::string path =
        std::string(role == kServer ? "/spire.api.server.logger.v1.Logger/" : "/spire.api.agent.logger.v1.Logger/") +
        method;
    const auto levels = rpc.call<Request, Levels>(path, request);
    if (!levels) return failed("", levels.error());
    if (json)
      std::printf("%s\n", wire::to_json(*levels).c_str());
    else
      std::printf("Logger Level : %s\nLaunch Level : %s\n\n", name_of(wire::enum_number((*levels)->current_level)),
                  name_of(wire::enum_number((*levels)->launch_level)));
    return 0;
  });
}

// Both roles' requests are the same on the wire.
int get_server(Context& context) {
  return ask(context, kServer, "GetLogger", Message<spire_api_server_logger_v1_GetLoggerRequest>());
}
int get_agent(Context& context) {
  return ask(context, kAgent, "GetLogger", Message<spire_api_agent_logger_v1_GetLoggerRequest>());
}
int reset_server(Context& context) {
  return ask(context, kServer, "ResetLogLevel", Message<spire_api_server_logger_v1_ResetLogLevelRequest>());
}
int reset_agent(Context& context) {
  return ask(context, kAgent, "ResetLogLevel", Message<spire_api_agent_logger_v1_ResetLogLevelRequest>());
}

int set(Context& context, unsigned role) {
  const std::string& text = context.flags->text("level");
  if (text.empty()) return failed(Error{Code::invalid_argument, "a value (-level) must be set"});
  const int level = level_of(text);
  if (level == 0) return failed(Error{Code::invalid_argument, "the value " + text + " is not a valid setting"});
  Message<spire_api_server_logger_v1_SetLogLevelRequest> request;
  request->new_level = static_cast<spire_api_types_LogLevel>(level);
  return ask(context, role, "SetLogLevel", request);
}
int set_server(Context& context) { return set(context, kServer); }
int set_agent(Context& context) { return set(context, kAgent); }

std::vector<Flag> flags_of(const Flag& socket) { return {socket, instance_flag(), output_flag()}; }
std::vector<Flag> set_flags(const Flag& socket) {
  return {{"level", FlagType::text, "", "The new level: panic, fatal, error, warn, info, debug or trace"},
          socket,
          instance_flag(),
          output_flag()};
}

}  // namespace

std::vector<Command> logger_commands() {
  const Flag server = server_socket_flag();
  const Flag agent = admin_socket_flag();
  return {
      {"logger get", kServer, "Prints the server's log level", flags_of(server), get_server},
      {"logger set", kServer, "Sets the server's log level", set_flags(server), set_server},
      {"logger reset", kServer, "Sets the server's log level back to the one it started with", flags_of(server),
       reset_server},
      {"logger get", kAgent, "Prints the agent's log level", flags_of(agent), get_agent},
      {"logger set", kAgent, "Sets the agent's log level", set_flags(agent), set_agent},
      {"logger reset", kAgent, "Sets the agent's log level back to the one it started with", flags_of(agent),
       reset_agent},
  };
}

}  // namespace limpet::cli
