// SPDX-License-Identifier: Apache-2.0
#include "cli/health_commands.h"

#include <cstdio>

#include "cli/session.h"
#include "proto/health.pb.h"
#include "wire/enum_number.h"

namespace limpet::cli {

using wire::Message;

namespace {

using Request = grpc_health_v1_HealthCheckRequest;
using Response = grpc_health_v1_HealthCheckResponse;

const char* status_name(int status) {
  switch (status) {
    case 1:
      return "SERVING";
    case 2:
      return "NOT_SERVING";
    case 3:
      return "SERVICE_UNKNOWN";
    default:
      return "UNKNOWN";
  }
}

// What is printed differs a little between the roles, as it does with SPIRE.
int unhealthy(unsigned role, const std::string& why) {
  if (role == kServer) {
    std::fprintf(stderr, "Error: server is unhealthy: %s\n", why.c_str());
  } else {
    std::fprintf(stderr, "Agent is unhealthy: %s\n", why.c_str());
  }
  return 1;
}

int check(Context& context, unsigned role) {
  const char* name = role == kServer ? "server" : "agent";
  const bool verbose = context.flags->on("verbose");
  if (verbose) std::printf("Checking %s health...\n", name), std::fflush(stdout);
  const auto socket = socket_path(context, role);
  if (!socket) return failed(socket.error());
  Rpc rpc(*socket, role);
  const auto response = rpc.call<Request, Response>("/grpc.health.v1.Health/Check", Message<Request>());
  if (!response) {
    if (verbose) std::fprintf(stderr, "Failed to check health: %s\n", rpc_text(response.error()).c_str());
    return unhealthy(role, "unable to determine health");
  }
  if (const int32_t status = wire::enum_number((*response)->status); status != 1) {
    return unhealthy(role, std::string(name) + " returned status \"" + status_name(status) + "\"");
  }
  std::printf("%s is healthy.\n", role == kServer ? "Server" : "Agent");
  return 0;
}

int check_server(Context& context) { return check(context, kServer); }
int check_agent(Context& context) { return check(context, kAgent); }

// `limpet healthcheck` asks for the role, the two names SPIRE gives it know it.
int check_role(Context& context) {
  const std::string& role = context.flags->text("role");
  if (role == "server") return check(context, kServer);
  if (role == "agent") return check(context, kAgent);
  return failed(Error{Code::invalid_argument, "-role must be server or agent, \"" + role + "\" is neither"});
}

std::vector<Flag> flags_of(Flag socket) {
  return {socket,
          instance_flag(),
          {"shallow", FlagType::boolean, "false", "Only check that it answers"},
          {"verbose", FlagType::boolean, "false", "Say what is done"}};
}

}  // namespace

std::vector<Command> health_commands() {
  auto both = flags_of({"socketPath", FlagType::text, "", "Path to the role's socket"});
  both.push_back({"role", FlagType::text, "server", "Whose health: server or agent"});
  return {
      {"healthcheck", kServer, "Says whether the server is healthy", flags_of(server_socket_flag()), check_server},
      {"healthcheck", kAgent, "Says whether the agent is healthy", flags_of(agent_socket_flag()), check_agent},
      {"healthcheck", kLimpet, "Says whether the server or the agent is healthy", both, check_role},
  };
}

}  // namespace limpet::cli
